//! nginx's lists of headers.

use std::ptr;

use nginx_sys::{ngx_list_part_t, ngx_list_t, ngx_palloc, ngx_table_elt_t};
use ngx::core::Pool;

/// The elements of a list of headers.
///
/// # Safety
/// The elements are headers, and the list does not change while they are read.
pub unsafe fn elements<'l>(list: *const ngx_list_t) -> impl Iterator<Item = &'l ngx_table_elt_t> {
    // SAFETY: by this function's contract.
    unsafe { element_pointers(list).map(|element| &*element) }
}

/// The same, for changing the elements.
///
/// # Safety
/// As for [`elements`].
pub unsafe fn element_pointers(list: *const ngx_list_t) -> ElementPointers {
    // SAFETY: by this function's contract.
    ElementPointers { part: unsafe { &raw const (*list).part }, next: 0 }
}

/// The addresses of the elements of a list of headers, which lives as long as this.
pub struct ElementPointers {
    part: *const ngx_list_part_t,
    next: usize,
}

impl Iterator for ElementPointers {
    type Item = *mut ngx_table_elt_t;

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: it is null or a part of the list, by the contract of `element_pointers`.
        while let Some(part) = unsafe { self.part.as_ref() } {
            if self.next < part.nelts {
                // A part has as many elements as it says.
                let element = part.elts.cast::<ngx_table_elt_t>().wrapping_add(self.next);
                self.next += 1;
                return Some(element);
            }
            (self.part, self.next) = (part.next, 0);
        }
        None
    }
}

/// Makes an empty list of headers; `None` where nginx has no memory. It is what `ngx_list_init()`
/// does, which is an inline function of C.
pub fn make_list(list: &mut ngx_list_t, pool: &Pool) -> Option<()> {
    let size = size_of::<ngx_table_elt_t>();
    // SAFETY: the pool is that of a live request.
    let elements = unsafe { ngx_palloc(pool.as_ptr(), HEADERS * size) };
    if elements.is_null() {
        return None;
    }
    list.part = ngx_list_part_t { elts: elements, nelts: 0, next: ptr::null_mut() };
    list.last = &mut list.part;
    list.size = size;
    list.nalloc = HEADERS;
    list.pool = pool.as_ptr();
    Some(())
}

/// nginx's first part of a list has room for this number of headers.
const HEADERS: usize = 20;
