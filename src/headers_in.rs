//! The request's headers: take the tokens, remove what a client must not send, set the identity.
//!
//! nginx keeps headers in a list of arrays ([`Request::headers`] tells when there is none), and
//! points into it (`headers_in.host` and the like), so elements must stay where they are. Removing
//! one cuts its array in two. Two habits of nginx's code set the form of the result: a loop over the
//! list looks at the first element of each part but the first one without asking whether there is
//! one, and `ngx_list_push()` takes the list's `nalloc` for the room in its last part.

use std::ptr::NonNull;

use keystone_token::headers::{folded, is_stripped, trim_blanks, HeaderName};
use nginx_sys::{ngx_list_part_t, ngx_list_t, ngx_str_t, ngx_table_elt_t};

use crate::request::{element_pointers, elements, make_list, static_name, Request};

/// The tokens of a request, without blanks and tabs around them; none is empty. They point into the
/// request's headers.
#[derive(Clone, Copy, Default)]
pub struct Tokens {
    /// Of `X-Auth-Token`, else of `X-Storage-Token`.
    pub user: Option<NonNull<[u8]>>,
    /// Of `X-Service-Token`.
    pub service: Option<NonNull<[u8]>>,
}

/// A header that may come once came twice.
#[derive(Clone, Copy, Debug)]
pub struct Duplicate(pub &'static str);

impl Request {
    /// Finds the tokens. Blanks and tabs around them are no part of a header's value (RFC 9110,
    /// section 5.5). nginx removes only some of them, so they are removed from the request: what is
    /// validated is what the upstream gets.
    pub fn take_tokens(&self) -> Result<Tokens, Duplicate> {
        self.trim_tokens();
        let mut found: [Option<&[u8]>; TOKEN_HEADERS.len()] = Default::default();
        for (name, value) in self.headers() {
            let Some(index) = token_header(name) else { continue };
            if found[index].replace(value).is_some() {
                return Err(Duplicate(TOKEN_HEADERS[index]));
            }
        }
        let [auth, storage, service] = found;
        let token =
            |header: Option<&[u8]>| header.filter(|token| !token.is_empty()).map(NonNull::from);
        // An empty X-Auth-Token wins too: that is what auth_token does.
        Ok(Tokens { user: token(auth.or(storage)), service: token(service) })
    }

    fn trim_tokens(&self) {
        // SAFETY: the list belongs to the request, and nothing else uses it meanwhile.
        for header in unsafe { element_pointers(&raw const (*self.as_ptr()).headers_in.headers) } {
            // SAFETY: as above.
            let header = unsafe { &mut *header };
            if !is_token_header(header.key.as_bytes()) {
                continue;
            }
            let token = trim_blanks(header.value.as_bytes());
            header.value = ngx_str_t { len: token.len(), data: token.as_ptr().cast_mut() };
        }
    }

    /// Removes the headers that only the module may set.
    pub fn strip_identity(&self) -> Option<()> {
        self.remove_headers(is_stripped)
    }

    /// Removes the tokens, so that an upstream does not get them.
    pub fn strip_tokens(&self) -> Option<()> {
        self.remove_headers(is_token_header)
    }

    /// Adds a header; `None` where nginx has no memory.
    ///
    /// # Safety
    /// The value stays where it is until the request ends.
    pub unsafe fn add_header(&self, name: HeaderName, value: &str) -> Option<()> {
        let list = self.header_list()?;
        // SAFETY: the list is intact.
        let header: *mut ngx_table_elt_t =
            unsafe { nginx_sys::ngx_list_push(list.as_ptr()) }.cast();
        if header.is_null() {
            return None;
        }
        let lowercase = name.lowercase.to_bytes();
        // SAFETY: the list has made room for one element; all-zero is a valid one.
        unsafe {
            header.write_bytes(0, 1);
            let header = &mut *header;
            // `proxy_set_header` and its like find by it what they override.
            header.hash = hash_key(lowercase);
            header.key = static_name(name.name);
            header.value = ngx_str_t { len: value.len(), data: value.as_ptr().cast_mut() };
            header.lowcase_key = lowercase.as_ptr().cast_mut();
        }
        Some(())
    }

    /// Removes the headers whose name `remove` picks; `None` where nginx has no memory, and then
    /// nothing is removed.
    fn remove_headers(&self, remove: impl Fn(&[u8]) -> bool) -> Option<()> {
        if !self.headers().any(|(name, _)| remove(name)) {
            return Some(());
        }
        // SAFETY: the list belongs to the request; nothing else uses it meanwhile.
        let list = unsafe { self.header_list()?.as_mut() };
        let removed = |header: &ngx_table_elt_t| remove(header.key.as_bytes());
        // What stays, as runs of elements that lie side by side.
        let mut runs: Vec<(*const ngx_table_elt_t, usize)> = Vec::new();
        // SAFETY: the elements are headers.
        for header in unsafe { elements(list) } {
            if removed(header) {
                continue;
            }
            let here: *const ngx_table_elt_t = header;
            match runs.last_mut() {
                Some((start, count)) if start.wrapping_add(*count) == here => *count += 1,
                _ => runs.push((here, 1)),
            }
        }
        rebuild(list, &self.pool(), &runs)
    }
}

/// Makes a list of these runs of its own elements.
fn rebuild(
    list: &mut ngx_list_t,
    pool: &ngx::core::Pool,
    runs: &[(*const ngx_table_elt_t, usize)],
) -> Option<()> {
    let Some(((first, count), more)) = runs.split_first() else {
        // The first part may begin anywhere in its array, and then has less room than `nalloc` says.
        return make_list(list, pool);
    };
    let mut parts = Vec::new();
    for (start, count) in more {
        let part: *mut ngx_list_part_t = pool.calloc_type();
        if part.is_null() {
            return None;
        }
        // SAFETY: the pool has made room for a part.
        unsafe {
            (*part).elts = start.cast_mut().cast();
            (*part).nelts = *count;
        }
        parts.push(part);
    }

    list.part.elts = first.cast_mut().cast();
    list.part.nelts = *count;
    list.part.next = parts.first().copied().unwrap_or(std::ptr::null_mut());
    for pair in parts.windows(2) {
        // SAFETY: both are parts made above.
        unsafe { (*pair[0]).next = pair[1] };
    }
    list.last = parts.last().copied().unwrap_or(&mut list.part);
    // The last part now counts as full: behind it may lie elements that are in use. The next push
    // takes a new part, of this many elements.
    // SAFETY: `last` is one of the parts above.
    list.nalloc = unsafe { (*list.last).nelts };
    Some(())
}

/// nginx's `ngx_hash_key()`.
fn hash_key(name: &[u8]) -> usize {
    name.iter().fold(0, |key: usize, byte| key.wrapping_mul(31).wrapping_add((*byte).into()))
}

/// The headers that carry tokens, in lower case.
const TOKEN_HEADERS: [&str; 3] = ["x-auth-token", "x-storage-token", "x-service-token"];

/// Whether a header carries a token.
pub fn is_token_header(name: &[u8]) -> bool {
    token_header(name).is_some()
}

fn token_header(name: &[u8]) -> Option<usize> {
    let name = || name.iter().copied().map(folded);
    TOKEN_HEADERS.iter().position(|known| known.bytes().eq(name()))
}
