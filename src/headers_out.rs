//! The response's headers.

use std::ffi::CStr;
use std::ptr::{self, NonNull};

use nginx_sys::{ngx_list_push, ngx_str_t, ngx_table_elt_t};

use crate::request::{element_pointers, elements, Request};
use crate::string::{static_name, static_string};

impl Request {
    /// Adds a response header; `None` where nginx has no memory.
    pub fn add_response_header(
        &self,
        name: &'static CStr,
        value: ngx_str_t,
    ) -> Option<NonNull<ngx_table_elt_t>> {
        // SAFETY: the list belongs to the request.
        let header = unsafe { ngx_list_push(&raw mut (*self.as_ptr()).headers_out.headers) };
        let header: NonNull<ngx_table_elt_t> = NonNull::new(header.cast())?;
        // SAFETY: the list has made room for one element; all-zero is a valid one.
        unsafe {
            header.write_bytes(0, 1);
            let header = &mut *header.as_ptr();
            header.hash = 1;
            header.key = static_name(name);
            header.value = value;
        }
        Some(header)
    }

    /// Appends to the list that a response header has for its value, or adds the header; `None`
    /// where nginx has no memory.
    pub fn extend_response_header(&self, name: &'static CStr, items: &str) -> Option<()> {
        // SAFETY: the list belongs to the request, and nothing else uses it meanwhile.
        let mut headers =
            unsafe { element_pointers(&raw const (*self.as_ptr()).headers_out.headers) }
                // SAFETY: as above.
                .map(|header| unsafe { &mut *header });
        let header = headers.find(|header| {
            let is_named = header.key.as_bytes().eq_ignore_ascii_case(name.to_bytes());
            header.hash != 0 && is_named && !header.value.as_bytes().trim_ascii().is_empty()
        });
        let Some(header) = header else {
            return self.add_response_header(name, self.copy_string(items)?).map(drop);
        };
        let value = [header.value.as_bytes(), b", ", items.as_bytes()].concat();
        // SAFETY: the pool is the request's, and so alive.
        header.value = unsafe { ngx_str_t::from_bytes(self.pool().as_ptr(), &value) }?;
        Some(())
    }

    /// The response headers that are set so far, as name and value.
    pub fn response_headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        // SAFETY: the list belongs to the request, and its elements are headers.
        unsafe { elements(&self.get().headers_out.headers) }
            .filter(|header| header.hash != 0)
            .map(|header| (header.key.as_bytes(), header.value.as_bytes()))
    }

    /// Adds a challenge to a 401 of the module, which nginx takes back where `satisfy any` lets the
    /// request pass after all; `None` where nginx has no memory.
    pub fn push_challenge(&self, name: &'static CStr, challenge: ngx_str_t) -> Option<()> {
        let header = self.add_response_header(name, challenge)?;
        // SAFETY: the request is alive, and so is the header, which lies in its pool.
        unsafe {
            let headers_out = &mut (*self.as_ptr()).headers_out;
            // nginx finds here what it takes back.
            #[cfg(nginx1_23_0)]
            {
                (*header.as_ptr()).next = headers_out.www_authenticate;
            }
            headers_out.www_authenticate = header.as_ptr();
        }
        Some(())
    }

    /// Takes all headers back that were added under this name, which is one by its address, if nginx
    /// has taken one of them back.
    #[cfg(not(nginx1_23_0))]
    pub fn take_back_headers(&self, name: &'static CStr) {
        let own = || {
            // SAFETY: the list belongs to the request, and nothing else uses it meanwhile.
            let headers =
                unsafe { element_pointers(&raw const (*self.as_ptr()).headers_out.headers) };
            // SAFETY: as above.
            let headers = headers.map(|header| unsafe { &mut *header });
            headers.filter(|header: &&mut ngx_table_elt_t| {
                header.key.data == name.as_ptr().cast_mut().cast()
            })
        };
        if own().any(|header| header.hash == 0) {
            own().for_each(|header| header.hash = 0);
        }
    }

    /// Announces a body of this type and length in place of the one that was announced.
    pub fn announce_body(&self, content_type: &'static str, len: usize) {
        // SAFETY: the request is alive, and its response's header is not sent yet.
        let headers_out = unsafe { &mut (*self.as_ptr()).headers_out };
        headers_out.content_type = static_string(content_type);
        headers_out.content_type_len = content_type.len();
        headers_out.content_type_lowcase = ptr::null_mut();
        headers_out.content_length_n = len as nginx_sys::off_t;
        // SAFETY: null, or a header in the response's list.
        if let Some(length) = unsafe { headers_out.content_length.as_mut() } {
            length.hash = 0;
            headers_out.content_length = ptr::null_mut();
        }
    }
}
