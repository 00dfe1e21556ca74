//! Flags that nginx keeps as bit-fields of a request.
//!
//! In C, a bit-field that would cross the end of an `unsigned` begins in the next one. bindgen counts
//! from the first bit-field, which since nginx 1.29.3 is behind `port`, in the middle of an
//! `unsigned`. There `uri_changes`, of four bits, begins two bits further than bindgen has it, and so
//! do all that follow. A test in Debian unstable fails if one is read in the wrong place.

use std::ffi::c_uint;
use std::mem::{align_of, offset_of};

use nginx_sys::ngx_http_request_t;

use super::Request;

/// Whether the flags are two bits further than their names in the bindings say.
const ARE_FURTHER: bool = offset_of!(ngx_http_request_t, _bitfield_1) % align_of::<c_uint>() != 0;

impl Request {
    /// Whether nginx itself has made the request, or led it here from another location.
    pub fn is_internal(&self) -> bool {
        // `internal`, `error_page` and `filter_finalize` follow each other.
        let flag = match ARE_FURTHER {
            true => self.get().filter_finalize(),
            false => self.get().internal(),
        };
        flag != 0
    }

    /// Whether the response has no body.
    pub fn is_header_only(&self) -> bool {
        // `header_only`, `expect_trailers` and `keepalive` follow each other.
        let flag = match ARE_FURTHER {
            true => self.get().keepalive(),
            false => self.get().header_only(),
        };
        flag != 0
    }
}
