//! The settings of a client.

use std::time::Duration;

use keystone_conf::Credentials;
use keystone_token::api::AuthVersion;

use crate::net::{Endpoint, TlsContext};

/// One identity service, as configured.
#[derive(Clone)]
pub struct ClientSettings {
    /// Where it is; at least one. They are tried in order.
    pub endpoints: Vec<Endpoint>,
    /// Which version of the API to use.
    pub version: AuthVersion,
    /// The service user's credentials.
    pub credentials: Credentials,
    /// For a connection, and again for its TLS handshake.
    pub connect_timeout: Duration,
    /// Between two writes of a request.
    pub send_timeout: Duration,
    /// Between two reads of an answer.
    pub read_timeout: Duration,
    /// How many more tries follow one that failed for want of the service.
    pub max_retries: u32,
    /// How many idle connections are kept.
    pub keepalive: usize,
    /// For `https` endpoints.
    pub tls: Option<TlsContext>,
}
