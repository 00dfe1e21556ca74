//! The id of a request: for the service behind, for the log, and for the answer.
//!
//! oslo.middleware takes the `X-Openstack-Request-Id` of a request for the id that a whole chain of
//! requests has in common (`request_id.py`). So an id of a client stays where it is.

use std::ptr::NonNull;

use keystone_gateway::request_id::RequestId;
use keystone_token::headers::{has_request_id, GLOBAL_REQUEST_ID, REQUEST_ID};
use nginx_sys::ngx_table_elt_t;

use crate::context::Context;
use crate::headers_in::NewHeaders;
use crate::random;
use crate::request::Request;
use crate::string::string;

/// Gives a main request its id: the client's if that has the form of one, or a new one; `None`
/// where nginx has no memory, or the system no random bytes.
pub fn set(request: &Request, context: &Context) -> Option<()> {
    if context.request_id.get().is_some() {
        return Some(());
    }
    let sent = match request.headers().any(|(name, _)| has_request_id(name)) {
        true => take(request)?,
        false => None,
    };
    let id = match sent {
        Some(id) => id,
        None => RequestId::new(random::bytes()?),
    };
    let id = context.request_id.get_or_init(|| id);

    let mut headers = NewHeaders::default();
    headers.push(&REQUEST_ID, id.as_bytes());
    if sent.is_some() {
        headers.push(&GLOBAL_REQUEST_ID, id.as_bytes());
    }
    // SAFETY: the id lies in the context, which lives as long as the request: a main one.
    unsafe { request.add_headers(&headers) }
}

/// Removes the client's id, and returns it if it has the form of one and there is no other; `None`
/// where nginx has no memory.
fn take(request: &Request) -> Option<Option<RequestId>> {
    let mut sent = request.headers().filter(|(name, _)| REQUEST_ID.names(name));
    let first = sent.next().and_then(|(_, value)| RequestId::parse(value));
    let id = first.filter(|_| sent.next().is_none());
    request.remove_headers(has_request_id)?;
    Some(id)
}

/// Tells the client the id, unless the service behind has told one of its own.
pub fn answer(request: &Request, context: &Context) {
    let Some(id) = context.request_id.get().map(RequestId::as_bytes) else { return };
    let name = REQUEST_ID.name;
    if request.response_headers().any(|(known, _)| known.eq_ignore_ascii_case(name.to_bytes())) {
        return;
    }
    // The text lives as long as the request.
    // Without memory nginx fails to send the answer anyway.
    let _: Option<NonNull<ngx_table_elt_t>> = request.add_response_header(name, string(id));
}
