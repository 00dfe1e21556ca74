//! Which server keeps which entry.
//!
//! Consistent hashing as ketama does it: each server has a number of points on a circle, and an
//! entry belongs to the next point from its own. A server that comes or goes moves only its share
//! of the entries. What counts is the server's name, not its place in the list, so gateways that
//! list the same servers in another order agree.

use std::mem;

use openssl::sha::sha256;

/// The servers, at their points on the circle.
#[derive(Clone, Debug)]
pub struct Ring {
    /// Ascending: where a point lies, and the place of its server in the list.
    points: Vec<(u64, usize)>,
    servers: usize,
}

impl Ring {
    /// Places servers by their names, each of which is there once.
    pub fn new<S: AsRef<str>>(servers: &[S]) -> Self {
        let name = |at: usize| servers.get(at).map(AsRef::as_ref);
        let mut points = Vec::with_capacity(servers.len() * POINTS);
        for (at, server) in servers.iter().enumerate() {
            for round in 0..ROUNDS {
                let digest = sha256(format!("{}-{round}", server.as_ref()).as_bytes());
                let (words, _) = digest.as_chunks::<8>();
                points.extend(words.iter().map(|word| (u64::from_le_bytes(*word), at)));
            }
        }
        // Names decide between points that fall on each other: the order of the list must not.
        points.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| name(a.1).cmp(&name(b.1))));
        Self { points, servers: servers.len() }
    }

    /// The places of all servers in the list, in the order in which they are to keep the entry:
    /// the second one where the first is down, and so on.
    pub fn order(&self, entry: &str) -> impl Iterator<Item = usize> + '_ {
        let digest = sha256(entry.as_bytes());
        let hash = u64::from_le_bytes(*digest.first_chunk().unwrap_or(&[0; 8]));
        let start = self.points.partition_point(|(point, _)| *point < hash);
        let (before, after) = self.points.split_at(start);
        let mut seen = vec![false; self.servers];
        after
            .iter()
            .chain(before)
            .map(|(_, server)| *server)
            .filter(move |server| !mem::replace(&mut seen[*server], true))
            .take(self.servers)
    }
}

/// Each digest gives four points. With 160 of them, shares differ by a tenth or so.
const ROUNDS: usize = 40;
const POINTS: usize = ROUNDS * 4;
