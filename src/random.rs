//! Random bytes of the system.

use std::cell::RefCell;
use std::io;

/// Fills the buffer, which has at most 256 bytes.
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: the buffer has as many bytes as the call gets.
    let filled = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    match usize::try_from(filled) {
        // So few bytes are given all at once (getrandom(2)).
        Ok(filled) if filled == bytes.len() => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Random bytes, which the system is asked for many at a time; `None` if it gives none.
pub fn bytes() -> Option<[u8; 16]> {
    thread_local! {
        static STOCK: RefCell<([[u8; 16]; 16], usize)> = const { RefCell::new(([[0; 16]; 16], 0)) };
    }
    STOCK.with_borrow_mut(|(stock, left)| {
        if *left == 0 {
            fill(stock.as_flattened_mut()).ok()?;
            *left = stock.len();
        }
        *left -= 1;
        stock.get(*left).copied()
    })
}
