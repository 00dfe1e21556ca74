//! Long work in steps, between which a worker serves its requests.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::net::next_round;

/// How the steps of long work follow one another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// At once: in the master, which serves no requests.
    AtOnce,
    /// One in each round of the event loop.
    EachRound,
}

impl Pace {
    /// Waits for the next step's turn.
    pub(super) async fn pause(self) {
        match self {
            Self::AtOnce => {}
            Self::EachRound => next_round().await,
        }
    }
}

/// Gives a long buffer back, some of it in each step: the system takes milliseconds for many pages.
pub(super) async fn release(mut buffer: Vec<u8>, pace: Pace) {
    while buffer.len() > RELEASED_BYTES {
        buffer.truncate(buffer.len() - RELEASED_BYTES);
        buffer.shrink_to_fit();
        pace.pause().await;
    }
}

/// The output of work at [`Pace::AtOnce`], which never waits.
pub(super) fn at_once<T>(work: impl Future<Output = T>) -> Option<T> {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// What is given back in a step.
const RELEASED_BYTES: usize = 1 << 20;
