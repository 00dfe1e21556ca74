//! Random bytes, and bytes that come in pieces.

use std::time::Duration;

use super::Maker;
use crate::case::Step;

impl Maker<'_> {
    /// Random bytes.
    pub(super) fn noise(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.random.below(256) as u8).collect()
    }

    /// Changes some of the bytes.
    pub(super) fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.random.below(3) {
            if bytes.is_empty() {
                return;
            }
            let at = self.random.below(bytes.len());
            match self.random.below(6) {
                0 => bytes[at] = self.random.below(256) as u8,
                1 => bytes[at] ^= 1 << self.random.below(8),
                2 => bytes.insert(at, self.random.pick(b"\0\r\n \t:%/?#\x7f\x80\xff")),
                3 => {
                    bytes.remove(at);
                }
                4 => bytes.truncate(at),
                _ => {
                    let end = (at + 1 + self.random.below(40)).min(bytes.len());
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
            }
        }
    }

    /// Sends some bytes at once, or in pieces with pauses between them.
    pub(super) fn send(&mut self, bytes: Vec<u8>) -> Vec<Step> {
        let pieces = match self.random.below(100) {
            0..80 => 1,
            80..97 => 2 + self.random.below(4),
            _ => 20,
        };
        let mut steps = Vec::new();
        let mut rest = bytes.as_slice();
        for left in (1..pieces).rev() {
            let most = (rest.len() / left).max(1) * 2;
            let (piece, after) = rest.split_at(self.random.below(most + 1).min(rest.len()));
            rest = after;
            if piece.is_empty() {
                continue;
            }
            steps.push(Step::Send(piece.to_vec()));
            let pause = self.random.pick(PAUSES);
            if pause > 0 {
                steps.push(Step::Pause(Duration::from_millis(pause)));
            }
        }
        steps.push(Step::Send(rest.to_vec()));
        steps
    }
}

/// In milliseconds.
const PAUSES: &[u64] = &[0, 0, 2, 2, 5, 10, 20];
