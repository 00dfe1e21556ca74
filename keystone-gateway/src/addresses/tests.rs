use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::PreferredAddress;

/// A server whose addresses refuse connections, except those that are listed.
struct Server<'a> {
    accepts: &'a [&'a str],
}

/// Connects, and returns the result with the addresses that were tried.
fn connect<'a>(
    preferred: &PreferredAddress<&'a str>,
    addresses: &[&'a str],
    server: &Server<'_>,
) -> (Result<&'a str, Option<String>>, Vec<&'a str>) {
    let tried = RefCell::new(Vec::new());
    let result = run(preferred.connect(addresses, async |address: &&'a str| {
        tried.borrow_mut().push(*address);
        match server.accepts.contains(address) {
            true => Ok(*address),
            false => Err(format!("{address} refused")),
        }
    }));
    (result, tried.into_inner())
}

fn run<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing here waits"),
    }
}

#[test]
fn addresses_are_tried_in_their_order() {
    let preferred = PreferredAddress::default();
    let (result, tried) = connect(&preferred, &["a", "b", "c"], &Server { accepts: &["b", "c"] });
    assert_eq!((result, tried), (Ok("b"), vec!["a", "b"]));
}

#[test]
fn the_address_that_accepted_last_is_tried_first() {
    let preferred = PreferredAddress::default();
    let addresses = ["a", "b", "c"];
    connect(&preferred, &addresses, &Server { accepts: &["b"] }).0.unwrap();

    let (result, tried) = connect(&preferred, &addresses, &Server { accepts: &["a", "b"] });
    assert_eq!((result, tried), (Ok("b"), vec!["b"]));
    let (result, tried) = connect(&preferred, &addresses, &Server { accepts: &["a"] });
    assert_eq!((result, tried), (Ok("a"), vec!["b", "c", "a"]));
    let (result, tried) = connect(&preferred, &addresses, &Server { accepts: &["a", "b"] });
    assert_eq!((result, tried), (Ok("a"), vec!["a"]));
}

#[test]
fn the_list_may_change() {
    let preferred = PreferredAddress::default();
    connect(&preferred, &["a", "b"], &Server { accepts: &["b"] }).0.unwrap();

    let (_, tried) = connect(&preferred, &["b", "a"], &Server { accepts: &[] });
    assert_eq!(tried, ["b", "a"]);
    let (_, tried) = connect(&preferred, &["c", "d", "b", "e"], &Server { accepts: &[] });
    assert_eq!(tried, ["b", "e", "c", "d"]);
    let (_, tried) = connect(&preferred, &["c", "d"], &Server { accepts: &[] });
    assert_eq!(tried, ["c", "d"]);
}

#[test]
fn the_last_error_is_returned() {
    let preferred = PreferredAddress::default();
    let refusing = Server { accepts: &[] };
    let (result, tried) = connect(&preferred, &["a", "b"], &refusing);
    assert_eq!((result, tried), (Err(Some("b refused".to_owned())), vec!["a", "b"]));
    let (result, tried) = connect(&preferred, &[], &refusing);
    assert_eq!((result, tried), (Err(None), vec![]));
}

#[test]
fn a_failure_does_not_change_the_preference() {
    let preferred = PreferredAddress::default();
    let addresses = ["a", "b"];
    connect(&preferred, &addresses, &Server { accepts: &["b"] }).0.unwrap();
    connect(&preferred, &addresses, &Server { accepts: &[] }).0.unwrap_err();
    assert_eq!(connect(&preferred, &addresses, &Server { accepts: &["a", "b"] }).1, ["b"]);
}

#[test]
fn after_an_address_that_does_not_serve_the_next_one_is_tried() {
    let preferred = PreferredAddress::default();
    let addresses = ["a", "b", "c"];
    let all = Server { accepts: &addresses };
    assert_eq!(connect(&preferred, &addresses, &all).1, ["a"]);
    preferred.leave(&"a");
    preferred.leave(&"a");
    assert_eq!(connect(&preferred, &addresses, &all).1, ["b"]);
    // A late failure of one that is not preferred any more.
    preferred.leave(&"a");
    assert_eq!(connect(&preferred, &addresses, &all).1, ["b"]);

    preferred.leave(&"b");
    assert_eq!(connect(&preferred, &addresses, &Server { accepts: &["b"] }).1, ["c", "a", "b"]);
    assert_eq!(connect(&preferred, &addresses, &all).1, ["b"]);
    connect(&preferred, &addresses, &Server { accepts: &["c"] }).0.unwrap();
    preferred.leave(&"c");
    assert_eq!(connect(&preferred, &addresses, &all).1, ["a"]);
}

#[test]
fn an_only_address_is_tried_again() {
    let preferred = PreferredAddress::default();
    let server = Server { accepts: &["a"] };
    connect(&preferred, &["a"], &server).0.unwrap();
    preferred.leave(&"a");
    assert_eq!(connect(&preferred, &["a"], &server).1, ["a"]);
}
