//! nginx's strings, which do not own their bytes.

use std::ffi::CStr;
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

/// A static string as an `ngx_str_t`.
pub fn static_string(text: &'static str) -> ngx_str_t {
    string(text.as_bytes())
}

/// The name of a header as an `ngx_str_t`; nginx expects the NUL behind it.
pub fn static_name(name: &'static CStr) -> ngx_str_t {
    ngx_str_t { len: name.count_bytes(), data: name.as_ptr().cast_mut().cast() }
}
