//! The challenges of a 401, in `WWW-Authenticate`.
//!
//! OpenStack's clients look for `Keystone uri="..."`, which every location announces. One that takes
//! Bearer tokens announces the scheme of RFC 6750 as well, in a second header: clients of either
//! kind read the challenge that they know, and some of them read only the beginning of a header.

use std::ffi::CStr;

use keystone_token::result::AuthResult;
use nginx_sys::ngx_str_t;

use crate::conf::challenges::Challenges;
use crate::conf::location::{Auth, LocationConf};
use crate::request::Request;
use crate::string::string;

/// Adds the challenges of the location to a 401 of the module, which has this result; `None` where
/// nginx has no memory.
pub fn announce(request: &Request, challenges: &Challenges, result: AuthResult) -> Option<()> {
    let bearer = takes_bearer(request).then(|| challenges.bearer(Some(result)));
    // A refusal that `error_page` has led here from has the same.
    let is_there = |challenge: &str| {
        let wanted = (NAME.to_bytes(), challenge.as_bytes());
        request.response_headers().any(|header| header == wanted)
    };
    for challenge in [Some(challenges.keystone()), bearer].into_iter().flatten() {
        if !is_there(challenge) {
            request.push_challenge(NAME, value(challenge))?;
        }
    }
    Some(())
}

/// Adds the challenges that a 401 of an upstream, or of another module, does not have.
pub fn complete(request: &Request) {
    let (Some(location), Some(server)) = (request.location(), request.server()) else { return };
    if location.auth() == Auth::Off {
        return;
    }
    let bearer = takes_bearer(request).then(|| server.challenges.bearer(None));
    let challenges = [Some(server.challenges.keystone()), bearer];
    for challenge in challenges.into_iter().flatten() {
        if !is_announced(request, challenge) {
            let _ = request.add_response_header(NAME, value(challenge));
        }
    }
}

/// Before 1.23, nginx takes back one header only when a request passes after all.
#[cfg(not(nginx1_23_0))]
pub fn take_back(request: &Request) {
    if takes_bearer(request) {
        request.take_back_headers(NAME);
    }
}

fn is_announced(request: &Request, challenge: &str) -> bool {
    let scheme = challenge.split_inclusive(' ').next().unwrap_or_default();
    request.response_headers().any(|(name, value)| {
        name.eq_ignore_ascii_case(NAME.to_bytes())
            && value.get(..scheme.len()).is_some_and(|v| v.eq_ignore_ascii_case(scheme.as_bytes()))
    })
}

fn takes_bearer(request: &Request) -> bool {
    request.location().is_some_and(LocationConf::takes_bearer)
}

fn value(challenge: &str) -> ngx_str_t {
    // The configuration outlives every request that it serves.
    string(challenge.as_bytes())
}

const NAME: &CStr = c"WWW-Authenticate";
