//! nginx's strings, which do not own their bytes.

use std::ptr;

use nginx_sys::ngx_str_t;

/// The bytes of a string; none where its length is zero.
///
/// # Safety
/// The string is valid, and its bytes stay where they are for `'s`.
pub unsafe fn bytes<'s>(string: &ngx_str_t) -> &'s [u8] {
    // SAFETY: by this function's contract.
    unsafe { &*ptr::from_ref(string.as_bytes()) }
}

/// The string with these bytes. nginx uses it as long as they stay where they are, and does not write
/// to them.
pub fn string(bytes: &[u8]) -> ngx_str_t {
    ngx_str_t { len: bytes.len(), data: bytes.as_ptr().cast_mut() }
}
