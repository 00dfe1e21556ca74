//! Connections, and HTTP/1.1, over nginx's event loop.
//!
//! A worker must never block, so everything here waits on nginx's own events: a `PeerConnection` is
//! an nginx connection whose read and write events wake a Rust task, [`TlsContext`] puts OpenSSL
//! on top of it, hyper speaks HTTP over the result, and [`HttpClient`] keeps idle connections for
//! the next request. [`Timer`] is an nginx timer that, unlike `ngx::async_::sleep`, a gracefully
//! stopping worker waits for.
//!
//! Three rules hold throughout:
//!
//! - One task owns a connection from the moment it is taken to the moment it is given back. There
//!   are no tasks in the background: dropping the future of a request closes its connection, and
//!   an idle connection is nobody's task, only an nginx event that closes it when the peer does.
//! - Wakers run the task on the caller's stack. So an event handler takes what it needs, wakes last
//!   and touches nothing afterwards, and no borrow of a `RefCell` is held across a wake or an await.
//! - No panic crosses into C: handlers run inside `shield`, and tasks are started
//!   with [`spawn`].

mod connection;
mod endpoint;
mod error;
mod http;
mod stream;
mod task;
mod timer;
mod tls;

pub use self::connection::{Peer, PeerAddr, PeerConnection, Timeouts};
pub use self::endpoint::{look_up, Endpoint, Resolver};
pub use self::error::{NetError, Phase};
pub use self::http::{HttpClient, HttpSettings, Response};
pub use self::task::{shield, spawn};
pub use self::timer::{exiting, now_micros, now_msec, now_sec, or_timeout, Timer};
pub use self::tls::TlsContext;
