//! nginx's `resolver`, which nginx asks again and again.

use std::net::{SocketAddr, UdpSocket};
use std::thread;

use keystone_testbed::mint::new_uuid;

use super::gateway::Gateway;

/// What a name server does with a question.
#[derive(Clone, Copy)]
enum Answer {
    Address([u8; 4]),
    Code(u8),
    /// An address of IPv4; asked for others, it fails.
    FailsIpv6([u8; 4]),
    /// What does not fit, and comes by TCP.
    Truncated,
}

/// A name server that ends with the process.
fn name_server(answer: Answer) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let mut message = bytes[..length].to_vec();
            message[2] = 0x81;
            let is_ipv4 = message[length - 3] == 1;
            match answer {
                Answer::Address(ip) | Answer::FailsIpv6(ip) if is_ipv4 => {
                    message[7] = 1;
                    message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                    message.extend(ip);
                }
                Answer::Address(_) => {}
                Answer::Code(code) => message[3] = code,
                Answer::FailsIpv6(_) => message[3] = 2,
                Answer::Truncated => message[2] |= 2,
            }
            socket.send_to(&message, from).unwrap();
        }
    });
    address
}

/// A gateway whose Keystone has this name, and whose nginx has these name servers.
fn gateway(name: &str, servers: &[SocketAddr]) -> Gateway {
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    gateway_with(name, &servers.join(" "))
}

/// The same with any arguments of `resolver`.
fn gateway_with(name: &str, resolver: &str) -> Gateway {
    let mut gateway = Gateway::new();
    gateway.settings = Some(format!(
        "resolver {resolver} valid=10s; keystone_auth_uri http://{name}:{};
         keystone_username gateway; keystone_password file:password;
         keystone_project_name service; keystone_signing_dir keystone;",
        gateway.identity.address().port()
    ));
    gateway
}

#[test]
fn nginx_s_own_resolver_is_asked() {
    let good = name_server(Answer::Address([127, 0, 0, 1]));
    let outcome = gateway("keystone.invalid", &[good]).check();
    assert_eq!(outcome.code, 0, "{}", outcome.human);
    outcome.says("keystone.resolver", "ok", "127.0.0.1").says("keystone.login", "ok", "token");
    let outcome = gateway("keystone.invalid", &[good]).token(&new_uuid(), &["--online"]);
    outcome.verdict(1, "refuse", Some("unknown_token"));

    // What it does not know, the system may have known when nginx was started.
    let ignorant = name_server(Answer::Code(3));
    let outcome = gateway("localhost", &[ignorant]).check();
    outcome.is_well().says("keystone.resolver", "ok", "NXDOMAIN");
    let outcome = gateway("keystone.invalid", &[ignorant]).check();
    assert_eq!(outcome.code, 1, "{}", outcome.human);
    outcome.says("keystone.dns", "fail", "not found");

    // Nothing answers on a port that is closed.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outcome = gateway("localhost", &[silent]).check();
    assert_eq!(outcome.code, 1, "{}", outcome.human);
    outcome.says("keystone.resolver", "fail", "resolver_timeout");
    outcome.says("keystone.login", "ok", "token");
    let outcome = gateway("localhost", &[silent, good]).check();
    assert_eq!(outcome.code, 0, "{}", outcome.human);
    outcome.says("keystone.resolver", "warn", "does not answer");
}

#[test]
fn only_addresses_that_nginx_wants_are_asked_for() {
    let server = name_server(Answer::FailsIpv6([127, 0, 0, 1]));
    let outcome = gateway_with("keystone.invalid", &format!("{server} ipv6=off")).check();
    assert_eq!(outcome.code, 0, "{}", outcome.human);
    outcome.says("keystone.resolver", "ok", "127.0.0.1").says("keystone.login", "ok", "token");
    for parameter in ["ipv4=off", "ipv6=on"] {
        let outcome = gateway_with("localhost", &format!("{server} {parameter}")).check();
        outcome.says("keystone.resolver", "ok", "SERVFAIL");
    }
}

#[test]
fn a_truncated_answer_does_not_tell_that_there_is_no_address() {
    let server = name_server(Answer::Truncated);
    let outcome = gateway("localhost", &[server]).check();
    outcome.says("keystone.resolver", "skip", "truncated").says("keystone.login", "ok", "token");
    // nginx may find by TCP what the system does not know.
    let server = name_server(Answer::Truncated);
    let outcome = gateway("keystone.invalid", &[server]).check();
    outcome.says("keystone.resolver", "skip", "truncated");
    assert!(outcome.find("keystone.dns").is_none(), "{}", outcome.human);
    let good = name_server(Answer::Address([127, 0, 0, 1]));
    let outcome = gateway("keystone.invalid", &[server, good]).check();
    outcome.says("keystone.resolver", "ok", "truncated").says("keystone.login", "ok", "token");
}

#[test]
fn both_commands_ask_the_keystone_that_nginx_asks() {
    // The system knows the name too, and says where Keystone does answer.
    let elsewhere = name_server(Answer::Address([127, 0, 0, 2]));
    let gateway = gateway("localhost", &[elsewhere]);
    let outcome = gateway.check();
    outcome.says("keystone.tcp", "fail", "127.0.0.2").says(
        "keystone.tcp",
        "fail",
        "nothing listens",
    );
    let outcome = gateway.token(&new_uuid(), &["--online"]);
    outcome.verdict(3, "unknown", Some("identity_unavailable"));
    assert_eq!(gateway.identity.count("/"), 0);
}
