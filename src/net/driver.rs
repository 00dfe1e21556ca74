//! hyper's half of a connection, which reads and writes while a request waits for it.

use std::error::Error;
use std::future::{poll_fn, Future};
use std::pin::{pin, Pin};
use std::task::Poll;

use hyper::body::Body;
use hyper::client::conn::http1::Connection;

use super::stream::Stream;

/// Runs `future` together with the connection that it waits for.
pub(super) async fn drive<B, F>(driver: &mut Option<Connection<Stream, B>>, future: F) -> F::Output
where
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
    F: Future,
{
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        if let Some(connection) = driver {
            // An error is reported to the request as well.
            if Pin::new(connection).poll(cx).is_ready() {
                *driver = None;
            }
        }
        future.as_mut().poll(cx)
    })
    .await
}
