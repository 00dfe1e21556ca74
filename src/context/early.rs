//! Identity headers that were set before the access phase.

use std::mem::discriminant;

use keystone_token::record::Record;
use nginx_sys::ngx_table_elt_t;

use crate::request::Request;
use crate::token_state::TokenState;

/// What identity headers depend on, besides the identities: whether the user token is valid, and the
/// state of the service token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct States {
    is_user_valid: bool,
    is_service_valid: bool,
    has_service: bool,
}

impl States {
    /// Those of a request in a location.
    pub fn of(user: &TokenState<Record<'_>>, service: &TokenState<Record<'_>>) -> Self {
        let has_service = discriminant(service) != discriminant(&TokenState::Absent);
        Self { is_user_valid: user.is_valid(), is_service_valid: service.is_valid(), has_service }
    }
}

/// The headers, as they were set: the last ones of nginx's list.
pub struct EarlyHeaders {
    states: States,
    headers: Vec<ngx_table_elt_t>,
}

impl EarlyHeaders {
    /// Those that have just been added to the request.
    pub fn of(request: &Request, states: States) -> Self {
        Self { states, headers: request.last_headers().to_vec() }
    }

    /// Whether the request has them still, and nothing behind them: then setting them again would
    /// change nothing.
    pub fn stand(&self, request: &Request, states: States) -> bool {
        let is_same = |(one, other): (&ngx_table_elt_t, &ngx_table_elt_t)| {
            one.hash == other.hash
                && one.key.data == other.key.data
                && one.value.data == other.value.data
                && one.value.len == other.value.len
        };
        let last = request.last_headers();
        states == self.states
            && last.len() == self.headers.len()
            && last.iter().zip(&self.headers).all(is_same)
    }
}
