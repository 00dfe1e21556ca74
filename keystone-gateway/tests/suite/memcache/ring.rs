//! The ring of servers.

use keystone_gateway::memcache::ring::Ring;
use proptest::prelude::*;
use proptest::sample::{subsequence, Index};

const SERVERS: [&str; 8] = [
    "10.0.0.1:11211",
    "10.0.0.2:11211",
    "10.0.0.2:11212",
    "[2001:db8::1]:11211",
    "cache-a.example.com:11211",
    "cache-b.example.com:11211",
    "unix:/run/memcached/a.sock",
    "unix:/run/memcached/b.sock",
];

fn entries(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("keystone/{n}"))
}

fn first<'a>(ring: &Ring, servers: &[&'a str], entry: &str) -> &'a str {
    servers[ring.order(entry).next().unwrap()]
}

#[test]
fn without_servers_there_is_no_place() {
    assert_eq!(Ring::new::<&str>(&[]).order("keystone/1").next(), None);
}

#[test]
fn shares_are_alike() {
    let ring = Ring::new(&SERVERS);
    let mut counts = [0; SERVERS.len()];
    for entry in entries(40_000) {
        counts[ring.order(&entry).next().unwrap()] += 1;
    }
    assert!(counts.iter().all(|count| (3_500..6_500).contains(count)), "{counts:?}");
}

/// A fleet may run two versions of the module.
#[test]
fn places_are_where_they_always_were() {
    let ring = Ring::new(&SERVERS);
    let places: Vec<_> = entries(8).map(|entry| ring.order(&entry).next().unwrap()).collect();
    assert_eq!(places, PLACES);
}

/// Computed with the hashes of Python.
const PLACES: [usize; 8] = [3, 0, 4, 2, 6, 3, 4, 3];

proptest! {
    #[test]
    fn the_order_of_the_list_does_not_matter(
        servers in Just(SERVERS.to_vec()).prop_shuffle(), n in any::<u32>(),
    ) {
        let entry = format!("keystone/{n:x}");
        let by_name = |servers: &[&'static str]| {
            let ring = Ring::new(servers);
            ring.order(&entry).map(|at| servers[at]).collect::<Vec<_>>()
        };
        let order = by_name(&servers);
        prop_assert_eq!(&order, &by_name(&SERVERS));
        prop_assert_eq!(order.len(), SERVERS.len());
    }

    #[test]
    fn a_server_that_comes_or_goes_moves_only_its_share(
        servers in subsequence(SERVERS.to_vec(), 2..=SERVERS.len()), which in any::<Index>(),
    ) {
        let gone = servers[which.index(servers.len())];
        let fewer: Vec<_> = servers.iter().copied().filter(|server| *server != gone).collect();
        let (all, rest) = (Ring::new(&servers), Ring::new(&fewer));
        for entry in entries(200) {
            let (before, after) = (first(&all, &servers, &entry), first(&rest, &fewer, &entry));
            if before != gone {
                prop_assert_eq!(before, after);
            } else {
                // where the others look for it while it is down
                prop_assert_eq!(all.order(&entry).nth(1).map(|at| servers[at]), Some(after));
            }
        }
    }
}
