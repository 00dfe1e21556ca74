//! Connections, and HTTP/1.1, over nginx's event loop.
//!
//! A worker must never block, so everything here waits on nginx's own events: a `PeerConnection` is
//! an nginx connection whose read and write events wake a Rust task, [`TlsContext`] puts OpenSSL
//! on top of it, hyper speaks HTTP over the result, and a [`Pool`] keeps idle connections for the
//! next request. [`Timer`] is an nginx timer that, unlike `ngx::async_::sleep`, a gracefully
//! stopping worker waits for. [`SingleFlight`] does work once for all that wait for it, and
//! [`StaleIfError`] keeps what such work has obtained.
//!
//! Two rules hold throughout:
//!
//! - One task owns a connection from the moment it is taken to the moment it is given back. There
//!   are no tasks in the background: dropping the future of a request closes its connection, and
//!   an idle connection has no task, only an nginx event that closes it when the peer does.
//! - No panic crosses into C: event handlers run inside [`catch_panic`], and tasks are started with
//!   [`spawn`].
//!
//! [`catch_panic`]: crate::panic::catch_panic

mod connection;
mod driver;
mod endpoint;
mod error;
mod event;
mod http;
mod peer;
mod pool;
mod proxy;
mod resolver;
mod single_flight;
mod stale_if_error;
mod stream;
mod task;
mod timer;
mod tls;

pub use self::connection::{PeerConnection, Timeouts};
pub use self::endpoint::{look_up, Endpoint, EndpointError, LookupError, Proxy};
pub use self::error::{ExchangeError, NetError, Phase};
pub use self::http::{HttpClient, HttpSettings, Response};
pub use self::peer::{Peer, PeerAddr};
pub use self::pool::Pool;
pub use self::resolver::Resolver;
pub use self::single_flight::{Abandoned, Call, SingleFlight};
pub use self::stale_if_error::StaleIfError;
pub use self::task::{drop_woken, next_round, spawn};
pub use self::timer::{exiting, now_micros, now_msec, now_sec, or_timeout, with_interval, Timer};
pub use self::tls::{TlsContext, TlsError};
