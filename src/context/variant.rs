//! What nginx's cache knows of the tokens that a request's upstream does not get.

use std::ptr::NonNull;

use nginx_sys::{ngx_http_request_t, ngx_http_upstream_t, ngx_int_t, ngx_table_elt_t};

/// The handler of an upstream that makes the request.
pub type CreateRequest = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;

/// What [`cache_variant`](crate::cache_variant) keeps in a request's context.
#[derive(Default)]
pub struct Variant {
    /// For each header that was removed, one with a digest of its value.
    pub digests: Vec<ngx_table_elt_t>,
    /// Whether they stand in the place of those that were removed.
    pub has_digests: bool,
    /// The upstreams whose handler was replaced, each with the handler. A request may have several:
    /// subrequests share its context.
    pub replaced: Vec<(NonNull<ngx_http_upstream_t>, CreateRequest)>,
}
