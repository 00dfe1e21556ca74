//! The request's headers: take the tokens, remove what a client must not send, set the identity.
//!
//! nginx keeps headers in a list of arrays ([`Request::headers`] tells when there is none), and
//! points into it (`headers_in.host` and the like), so elements must stay where they are. Removing
//! one cuts its array in two. Two habits of nginx's code set the form of the result: a loop over
//! the list looks at the first element of each part but the first one without asking whether there
//! is one, and `ngx_list_push()` takes the list's `nalloc` for the room in its last part.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use keystone_token::headers::{self, folded, is_stripped, trim_blanks, HeaderName};
use nginx_sys::{ngx_list_part_t, ngx_list_t, ngx_palloc, ngx_str_t, ngx_table_elt_t};

use crate::request::{element_pointers, elements, make_list, static_name, Request};

/// The tokens of a request, without blanks and tabs around them; none is empty. They point into the
/// request's headers.
#[derive(Clone, Copy, Default)]
pub struct Tokens {
    /// Of `X-Auth-Token`, else of `X-Storage-Token`.
    pub user: Option<NonNull<[u8]>>,
    /// The value of `X-Service-Token`.
    pub service: Option<NonNull<[u8]>>,
    /// Whether the user token was taken from `X-Storage-Token`.
    pub from_storage: bool,
}

/// A header that may come once came twice.
#[derive(Clone, Copy, Debug)]
pub struct Duplicate(pub &'static str);

impl Request {
    /// Finds the tokens. Blanks and tabs around them are no part of a header's value (RFC 9110,
    /// section 5.5). nginx removes only some of them, so they are removed from the request: what is
    /// validated is what the upstream gets.
    pub fn take_tokens(&self) -> Result<Tokens, Duplicate> {
        let mut found: [Option<&[u8]>; TOKEN_HEADERS.len()] = Default::default();
        let mut duplicate = None;
        // SAFETY: the list belongs to the request, and nothing else uses it meanwhile.
        for header in unsafe { element_pointers(&raw const (*self.as_ptr()).headers_in.headers) } {
            // SAFETY: as above.
            let header = unsafe { &mut *header };
            let Some(index) = token_header(header.key.as_bytes()) else { continue };
            // SAFETY: the bytes lie in the request's pool or buffers, not in the header.
            let token = trim_blanks(unsafe { &*std::ptr::from_ref(header.value.as_bytes()) });
            header.value = ngx_str_t { len: token.len(), data: token.as_ptr().cast_mut() };
            if found[index].replace(token).is_some() {
                duplicate.get_or_insert(Duplicate(TOKEN_HEADERS[index]));
            }
        }
        if let Some(duplicate) = duplicate {
            return Err(duplicate);
        }
        let [auth, storage, service] = found;
        let token =
            |header: Option<&[u8]>| header.filter(|token| !token.is_empty()).map(NonNull::from);
        // An empty X-Auth-Token wins too: that is what auth_token does.
        let user = token(auth.or(storage));
        let from_storage = auth.is_none() && user.is_some();
        Ok(Tokens { user, service: token(service), from_storage })
    }

    /// Removes the headers that only the module may set.
    pub fn strip_identity(&self) -> Option<()> {
        self.remove_headers(is_stripped)
    }

    /// Removes the tokens, so that an upstream does not get them.
    pub fn strip_tokens(&self) -> Option<()> {
        self.remove_headers(is_token_header)
    }

    /// The headers that carry tokens, as nginx has them.
    pub fn token_headers(&self) -> Vec<ngx_table_elt_t> {
        // SAFETY: the list belongs to the request, and does not change meanwhile.
        let headers = unsafe { elements(&raw const (*self.as_ptr()).headers_in.headers) };
        headers.filter(|header| is_token_header(header.key.as_bytes())).copied().collect()
    }

    /// Appends headers whose bytes lie in the request's pool; `None` where nginx has no memory. The
    /// list of a subrequest may have its elements in common with that of its parent, so room that
    /// is left in one of its arrays is not used.
    pub fn append_headers(&self, headers: &[ngx_table_elt_t]) -> Option<()> {
        let copy = self.copy_headers(headers)?;
        // SAFETY: the list belongs to the request; nothing else uses it meanwhile.
        let list = unsafe { self.header_list()?.as_mut() };
        let mut runs = runs(list, |_| true);
        runs.push((copy.as_ptr(), headers.len()));
        rebuild(list, &self.pool(), &runs)
    }

    /// Copies headers into the request's pool.
    fn copy_headers(&self, headers: &[ngx_table_elt_t]) -> Option<NonNull<ngx_table_elt_t>> {
        let size = std::mem::size_of_val(headers);
        // SAFETY: the pool is that of a live request.
        let copy = unsafe { ngx_palloc(self.pool().as_ptr(), size) };
        let copy = NonNull::new(copy.cast::<ngx_table_elt_t>())?;
        // SAFETY: the pool has made room for so many elements.
        unsafe { copy.as_ptr().copy_from_nonoverlapping(headers.as_ptr(), headers.len()) };
        Some(copy)
    }

    /// Adds headers, as a part of their own of nginx's list; `None` where nginx has no memory.
    ///
    /// # Safety
    /// The values stay where they are until the request ends. The request is a main one: the list
    /// of a subrequest may have its parts in common with that of its parent.
    pub unsafe fn add_headers(&self, headers: &NewHeaders<'_>) -> Option<()> {
        let Some(headers @ [_, ..]) = headers.elements.get(..headers.count) else {
            return Some(());
        };
        let elements = self.copy_headers(headers)?;
        let part: *mut ngx_list_part_t = self.pool().calloc_type();
        if part.is_null() {
            return None;
        }
        // SAFETY: the list belongs to the request, and nothing else uses it meanwhile; its last
        // part is a part, as is the new one, which is full.
        unsafe {
            let list = self.header_list()?.as_mut();
            *part = ngx_list_part_t {
                elts: elements.as_ptr().cast(),
                nelts: headers.len(),
                next: ptr::null_mut(),
            };
            (*list.last).next = part;
            list.last = part;
            list.nalloc = headers.len();
        }
        Some(())
    }

    /// Removes the headers whose name `remove` picks; `None` where nginx has no memory, and then
    /// nothing is removed.
    pub fn remove_headers(&self, remove: impl Fn(&[u8]) -> bool) -> Option<()> {
        if !self.headers().any(|(name, _)| remove(name)) {
            return Some(());
        }
        // SAFETY: the list belongs to the request; nothing else uses it meanwhile.
        let list = unsafe { self.header_list()?.as_mut() };
        let stays = runs(list, |header| !remove(header.key.as_bytes()));
        rebuild(list, &self.pool(), &stays)
    }
}

/// Headers that are to be added to a request: at most those of a user and of a service.
pub struct NewHeaders<'v> {
    elements: [ngx_table_elt_t; headers::COUNT],
    count: usize,
    values: PhantomData<&'v str>,
}

impl<'v> NewHeaders<'v> {
    /// None yet.
    pub fn new() -> Self {
        // SAFETY: all-zero is a valid header.
        Self { elements: unsafe { std::mem::zeroed() }, count: 0, values: PhantomData }
    }

    /// One more.
    pub fn push(&mut self, name: HeaderName, value: &'v str) {
        let Some(header) = self.elements.get_mut(self.count) else { return };
        // `proxy_set_header` and its like find by it what they override.
        header.hash = name.hash;
        header.key = static_name(name.name);
        header.value = ngx_str_t { len: value.len(), data: value.as_ptr().cast_mut() };
        header.lowcase_key = name.lowercase.as_ptr().cast_mut().cast();
        self.count += 1;
    }

    /// Some more.
    pub fn extend(&mut self, headers: impl Iterator<Item = (HeaderName, &'v str)>) {
        headers.for_each(|(name, value)| self.push(name, value));
    }
}

/// The elements that `stays` picks, as runs of elements that lie side by side.
fn runs(
    list: &ngx_list_t,
    stays: impl Fn(&ngx_table_elt_t) -> bool,
) -> Vec<(*const ngx_table_elt_t, usize)> {
    let mut runs: Vec<(*const ngx_table_elt_t, usize)> = Vec::new();
    // SAFETY: the elements are headers.
    for header in unsafe { elements(list) }.filter(|header| stays(header)) {
        let here: *const ngx_table_elt_t = header;
        match runs.last_mut() {
            Some((start, count)) if start.wrapping_add(*count) == here => *count += 1,
            _ => runs.push((here, 1)),
        }
    }
    runs
}

/// Makes a list of these runs of its own elements.
fn rebuild(
    list: &mut ngx_list_t,
    pool: &ngx::core::Pool,
    runs: &[(*const ngx_table_elt_t, usize)],
) -> Option<()> {
    let Some(((first, count), more)) = runs.split_first() else {
        // The first part may begin anywhere in its array, and then has less room than `nalloc`
        // says.
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

/// The user token.
pub const AUTH_TOKEN: &str = "X-Auth-Token";

/// The user token where there is no `X-Auth-Token`.
pub const STORAGE_TOKEN: &str = "X-Storage-Token";

/// The token of a service that hands a user's request on.
pub const SERVICE_TOKEN: &str = "X-Service-Token";

/// The headers that carry tokens.
const TOKEN_HEADERS: [&str; 3] = [AUTH_TOKEN, STORAGE_TOKEN, SERVICE_TOKEN];

/// Whether a header carries a token.
pub fn is_token_header(name: &[u8]) -> bool {
    token_header(name).is_some()
}

fn token_header(name: &[u8]) -> Option<usize> {
    let is_called = |known: &str| {
        known.len() == name.len() && known.bytes().map(folded).eq(name.iter().copied().map(folded))
    };
    TOKEN_HEADERS.iter().position(|known| is_called(known))
}
