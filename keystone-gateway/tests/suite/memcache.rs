//! The second level: entries, the ring of servers, the protocol.

mod protocol;
mod ring;
mod seal;

use keystone_gateway::memcache::server::{Server, ServerError};

#[test]
fn servers_that_are_the_same_are_written_the_same() {
    let same = [
        ("Cache-1.Example.COM:11211", "cache-1.example.com:11211"),
        ("10.0.0.1:1", "10.0.0.1:1"),
        ("10.0.0.1:00080", "10.0.0.1:80"),
        ("[0:0:0:0:0:0:0:1]:65535", "[::1]:65535"),
        ("[2001:DB8::1]:11211", "[2001:db8::1]:11211"),
        ("unix:/run/memcached/Socket.sock", "unix:/run/memcached/Socket.sock"),
    ];
    for (text, canonical) in same {
        let server: Server = text.parse().unwrap();
        assert_eq!(server.to_string(), canonical);
        assert_eq!(canonical.parse::<Server>().unwrap(), server);
    }
}

#[test]
fn what_is_no_server() {
    let long = format!("unix:/{}", "x".repeat(107));
    let bad = [
        ("", ServerError::Form),
        ("cache", ServerError::Form),
        ("cache:", ServerError::Form),
        ("cache:http", ServerError::Form),
        ("cache:+1", ServerError::Form),
        ("cache:-1", ServerError::Form),
        ("::1:11211", ServerError::Form),
        ("[::1:11211", ServerError::Form),
        ("http://cache:11211", ServerError::Form),
        (":11211", ServerError::Host),
        ("ca che:11211", ServerError::Host),
        ("user@cache:11211", ServerError::Host),
        ("[cache]:11211", ServerError::Host),
        ("[::1%eth0]:11211", ServerError::Host),
        ("cache:0", ServerError::Port),
        ("cache:65536", ServerError::Port),
        ("cache:99999999999999999999", ServerError::Port),
        ("unix:", ServerError::Path),
        ("unix:run/memcached.sock", ServerError::Path),
        ("unix:/run/\n", ServerError::Path),
        (&long, ServerError::Path),
    ];
    for (text, error) in bad {
        assert_eq!(text.parse::<Server>(), Err(error), "{text}");
    }
    assert!(long[..long.len() - 1].parse::<Server>().is_ok());
}
