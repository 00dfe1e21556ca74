//! Tokens of the size that a real Keystone gives.

use std::thread;

use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::pki::Pair;
use serde_json::{json, Value};

use crate::Failure;

/// The project of all users.
pub const PROJECT: &str = "7f3c2a90b1d24e5f8a6c0d1e2f3a4b5c";

/// Signs `count` PKI tokens, each for another user.
pub fn sign(signer: &Pair, count: usize, expires_in: i64) -> Result<Vec<String>, Failure> {
    sign_as(count, &|number| payload(number, expires_in).pki(signer))
}

/// The same of PKIZ tokens.
pub fn sign_pkiz(signer: &Pair, count: usize, expires_in: i64) -> Result<Vec<String>, Failure> {
    sign_as(count, &|number| payload(number, expires_in).pkiz(signer))
}

fn sign_as(
    count: usize,
    sign: &(impl Fn(usize) -> keystone_testbed::Result<String> + Sync),
) -> Result<Vec<String>, Failure> {
    let threads = thread::available_parallelism()?.get();
    let share = count.div_ceil(threads).max(1);
    let signed: Result<Vec<Vec<String>>, String> = thread::scope(|scope| {
        let part = |first: usize| {
            let numbers = first..(first + share).min(count);
            let sign = |number| sign(number).map_err(|error| error.to_string());
            move || numbers.map(sign).collect()
        };
        let firsts = (0..count).step_by(share);
        let threads: Vec<_> = firsts.map(|first| scope.spawn(part(first))).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|part| part.unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    Ok(signed?.concat())
}

/// `count` texts that look like Fernet tokens of today.
pub fn fernet(count: usize) -> Vec<String> {
    // As long as one that is scoped to a project: others are refused for their length.
    let filling = || new_uuid().repeat(6);
    (0..count).map(|number| format!("gAAAAABn{number:08}{}", &filling()[..188])).collect()
}

/// What an identity service says of each of them.
pub fn answer(expires_in: i64) -> String {
    Payload::v3()
        .without("/catalog")
        .roles(&["member", "reader", "object-store-operator"])
        .expires_in(expires_in)
        .json()
}

fn payload(number: usize, expires_in: i64) -> Payload {
    Payload::v3()
        .user(&new_uuid(), &format!("user-{number}"))
        .project(PROJECT, "project")
        .roles(&["member", "reader", "object-store-operator"])
        .with("/catalog", catalog())
        .expires_in(expires_in)
}

/// Four services of three endpoints make a token of some four kilobytes.
fn catalog() -> Value {
    let endpoint = |interface: &str, port: u16| {
        json!({
            "id": new_uuid(), "interface": interface, "region": "RegionOne",
            "region_id": "RegionOne", "url": format!("http://10.0.0.11:{port}/v2.1")
        })
    };
    let service = |(kind, name, port): (&str, &str, u16)| {
        let endpoints = ["public", "internal", "admin"].map(|interface| endpoint(interface, port));
        json!({"id": new_uuid(), "type": kind, "name": name, "endpoints": endpoints})
    };
    let services = [
        ("identity", "keystone", 5000),
        ("compute", "nova", 8774),
        ("image", "glance", 9292),
        ("object-store", "swift", 8080),
    ];
    services.into_iter().map(service).collect()
}
