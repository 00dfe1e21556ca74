//! The request's headers: remove what a client must not send, set the identity.
//!
//! nginx keeps headers in a list of arrays ([`Request::headers`] tells when there is none), and
//! points into it (`headers_in.host` and the like), so elements must stay where they are. Removing
//! one cuts its array in two. Two habits of nginx's code set the form of the result: a loop over
//! the list looks at the first element of each part but the first one without asking whether there
//! is one, and `ngx_list_push()` takes the list's `nalloc` for the room in its last part.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use arrayvec::ArrayVec;
use keystone_token::headers::{self, is_stripped, trim_blanks, HeaderName};
#[cfg(not(nginx1_23_0))]
use nginx_sys::{ngx_array_create, ngx_array_t};
use nginx_sys::{ngx_list_part_t, ngx_list_t, ngx_palloc, ngx_str_t, ngx_table_elt_t};

use crate::request::{element_pointers, elements, make_list, Request};
use crate::string::{bytes, static_name, string};

impl Request {
    /// Removes the headers that only the module may set.
    pub fn strip_identity(&self) -> Option<()> {
        self.remove_headers(is_stripped)
    }

    /// Whether the request has headers that only the module may set, and that it has not set.
    pub fn has_foreign_identity(&self) -> bool {
        self.header_elements().any(is_foreign)
    }

    /// Removes these; `None` where nginx has no memory.
    pub fn strip_foreign_identity(&self) -> Option<()> {
        self.replace_headers(|header| !is_foreign(header), &[])
    }

    /// The request's headers, as nginx has them; as [`Request::headers`]. They may change when this
    /// iterator is gone.
    pub fn header_elements(&self) -> impl Iterator<Item = &ngx_table_elt_t> {
        // SAFETY: the list belongs to the request, and its elements are headers.
        unsafe { elements(&raw const (*self.as_ptr()).headers_in.headers) }
    }

    /// Removes blanks and tabs around the values of the headers whose names `pick` knows, as they
    /// are looked at; gives the values, and what `pick` gives. The values live as long as the
    /// request.
    pub fn trim_headers<'r, T>(
        &self,
        pick: impl Fn(&[u8]) -> Option<T>,
    ) -> impl Iterator<Item = (T, &'r [u8])> {
        // SAFETY: the list belongs to the request, and its elements are headers.
        let headers = unsafe { element_pointers(&raw const (*self.as_ptr()).headers_in.headers) };
        headers.filter_map(move |header| {
            // SAFETY: nothing else uses the header meanwhile.
            let header = unsafe { &mut *header };
            let picked = pick(header.key.as_bytes())?;
            // SAFETY: the value's bytes lie in the request's pool or buffers.
            let value = trim_blanks(unsafe { bytes(&header.value) });
            header.value = string(value);
            Some((picked, value))
        })
    }

    /// The headers of the last part of nginx's list: those that were added last.
    pub fn last_headers(&self) -> &[ngx_table_elt_t] {
        // SAFETY: the list belongs to the request. Its last part is null where nginx has read no
        // headers, and has as many elements as it says, which are headers.
        unsafe {
            let last = (*self.as_ptr()).headers_in.headers.last.as_ref();
            match last.filter(|part| part.nelts > 0) {
                Some(part) => std::slice::from_raw_parts(part.elts.cast(), part.nelts),
                None => &[],
            }
        }
    }

    /// Appends headers whose bytes lie in the request's pool; `None` where nginx has no memory.
    pub fn append_headers(&self, headers: &[ngx_table_elt_t]) -> Option<()> {
        self.replace_headers(|_| true, headers)
    }

    /// Keeps the headers that `stays` picks and appends others, whose bytes lie in the request's
    /// pool; `None` where nginx has no memory, and then nothing is changed. The list of a subrequest
    /// may have its elements in common with that of its parent, so room that is left in one of its
    /// arrays is not used.
    pub fn replace_headers(
        &self,
        stays: impl Fn(&ngx_table_elt_t) -> bool,
        others: &[ngx_table_elt_t],
    ) -> Option<()> {
        // SAFETY: the list belongs to the request; nothing else uses it meanwhile.
        let list = unsafe { self.header_list()?.as_mut() };
        let mut runs = runs(list, stays);
        if !others.is_empty() {
            runs.push((self.copy_headers(others, &[])?.as_ptr(), others.len()));
        }
        rebuild(list, &self.pool(), &runs)
    }

    /// Copies headers into the request's pool, one after the other.
    fn copy_headers(
        &self,
        headers: &[ngx_table_elt_t],
        more: &[ngx_table_elt_t],
    ) -> Option<NonNull<ngx_table_elt_t>> {
        let size = size_of_val(headers) + size_of_val(more);
        // SAFETY: the pool is that of a live request.
        let copy = unsafe { ngx_palloc(self.pool().as_ptr(), size) };
        let copy = NonNull::new(copy.cast::<ngx_table_elt_t>())?;
        // SAFETY: the pool has made room for so many elements.
        unsafe {
            copy.as_ptr().copy_from_nonoverlapping(headers.as_ptr(), headers.len());
            let behind = copy.as_ptr().add(headers.len());
            behind.copy_from_nonoverlapping(more.as_ptr(), more.len());
        }
        Some(copy)
    }

    /// Lets nginx find the `Cookie` headers again, which may have become others.
    #[cfg(nginx1_23_0)]
    pub fn find_cookies(&self) -> Option<()> {
        let r = self.as_ptr();
        // SAFETY: the list belongs to the request, and nothing else uses it meanwhile.
        unsafe {
            let mut next = &raw mut (*r).headers_in.cookie;
            for header in element_pointers(&raw const (*r).headers_in.headers) {
                if (*header).key.as_bytes().eq_ignore_ascii_case(b"cookie") {
                    next.write(header);
                    next = &raw mut (*header).next;
                }
            }
            next.write(ptr::null_mut());
        }
        Some(())
    }

    /// Lets nginx find the `Cookie` headers again, which may have become others. `None` where nginx
    /// has no memory.
    #[cfg(not(nginx1_23_0))]
    pub fn find_cookies(&self) -> Option<()> {
        let r = self.as_ptr();
        // SAFETY: the list belongs to the request, and nothing else uses it meanwhile. The array is
        // one of pointers to headers, as nginx makes it; a subrequest has that of its parent, so it
        // is made anew.
        unsafe {
            let cookies = element_pointers(&raw const (*r).headers_in.headers)
                .filter(|header| (**header).key.as_bytes().eq_ignore_ascii_case(b"cookie"));
            let cookies: Vec<*mut ngx_table_elt_t> = cookies.collect();
            let mut array: ngx_array_t = std::mem::zeroed();
            if !cookies.is_empty() {
                let size = size_of::<*mut ngx_table_elt_t>();
                let made = ngx_array_create((*r).pool, cookies.len(), size);
                array = made.as_ref().copied()?;
                array.nelts = cookies.len();
                let elements: *mut *mut ngx_table_elt_t = array.elts.cast();
                elements.copy_from_nonoverlapping(cookies.as_ptr(), cookies.len());
            }
            (*r).headers_in.cookies = array;
        }
        Some(())
    }

    /// Adds headers, as a part of their own of nginx's list; `None` where nginx has no memory.
    ///
    /// # Safety
    /// The values stay where they are until the request ends. The request is a main one: the list
    /// of a subrequest may have its parts in common with that of its parent.
    pub unsafe fn add_headers(&self, headers: &NewHeaders<'_>) -> Option<()> {
        let elements = self.copy_headers(headers.made, &headers.others)?;
        let len = headers.made.len() + headers.others.len();
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
                nelts: len,
                next: ptr::null_mut(),
            };
            (*list.last).next = part;
            list.last = part;
            list.nalloc = len;
        }
        Some(())
    }

    /// Removes the headers whose name `remove` picks; `None` where nginx has no memory, and then
    /// nothing is removed.
    pub fn remove_headers(&self, remove: impl Fn(&[u8]) -> bool) -> Option<()> {
        match self.headers().any(|(name, _)| remove(name)) {
            true => self.replace_headers(|header| !remove(header.key.as_bytes()), &[]),
            false => Some(()),
        }
    }
}

/// Headers that are to be added to a request: at most those of a user and of a service.
#[derive(Default)]
pub struct NewHeaders<'v> {
    /// Those that are elements of a list already.
    pub made: &'v [ngx_table_elt_t],
    others: ArrayVec<ngx_table_elt_t, OTHERS>,
    values: PhantomData<&'v [u8]>,
}

impl<'v> NewHeaders<'v> {
    /// One more. There is room for each header that the module may set, once.
    pub fn push(&mut self, name: &'static HeaderName, value: &'v [u8]) {
        let pushed = self.others.try_push(element(name, value));
        debug_assert!(pushed.is_ok());
    }

    /// Some more.
    pub fn extend(&mut self, headers: impl Iterator<Item = (&'static HeaderName, &'v str)>) {
        headers.for_each(|(name, value)| self.push(name, value.as_bytes()));
    }
}

/// The two statuses, the catalog, and those of a service.
const OTHERS: usize = 3 + headers::SERVICE_HEADERS_LEN;

fn is_foreign(header: &ngx_table_elt_t) -> bool {
    is_stripped(header.key.as_bytes()) && !headers::set_headers().any(|name| is_made(header, name))
}

/// Whether the module has made the header, with this name. The name of one that a client has sent
/// lies elsewhere.
pub fn is_made(header: &ngx_table_elt_t, name: &'static HeaderName) -> bool {
    ptr::eq(header.key.data.cast_const().cast(), name.name.as_ptr())
}

/// A header as nginx keeps it; the value stays where it is.
pub fn element(name: &'static HeaderName, value: &[u8]) -> ngx_table_elt_t {
    ngx_table_elt_t {
        // `proxy_set_header` and its like find by it what they override.
        hash: name.hash,
        key: static_name(name.name),
        value: ngx_str_t { len: value.len(), data: value.as_ptr().cast_mut() },
        lowcase_key: name.lowercase.as_ptr().cast_mut().cast(),
        #[cfg(nginx1_23_0)]
        next: ptr::null_mut(),
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
