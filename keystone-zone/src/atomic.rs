//! The atomics of this crate: those of std, and those of loom where the tests in `model.rs` check
//! all orders in which other processes may see what one writes.

#[cfg(loom)]
pub use loom::sync::atomic::{fence, AtomicU64, Ordering};
#[cfg(not(loom))]
pub use std::sync::atomic::{fence, AtomicU64, Ordering};
