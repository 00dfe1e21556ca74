//! Paths of nasty characters: `keystone_swift_auth` never lets a request pass that Swift refuses,
//! whatever either of them reads in its path.

use std::collections::BTreeMap;

use keystone_testbed::http::Request;
use keystone_testbed::random::{number, Random};

use crate::agreement::Both;

#[test]
fn no_path_passes_that_swift_refuses() {
    let both = Both::start();
    both.container(CONTAINER);
    let [own, other] = ["demo", "other"].map(|project| both.cloud.account(project));
    let seed = number("KEYSTONE_ORACLE_SEED", SEED);
    let mut random = Random::new(seed);
    let mut tally = BTreeMap::new();
    for _ in 0..number("KEYSTONE_ORACLE_CASES", CASES) {
        // None that makes or deletes what other tests could meet.
        let method = random.pick(&["GET", "GET", "HEAD", "POST", "OPTIONS", "PATCH"]);
        let path = path(&mut random, &own, &other);
        let (name, token) = &both.users[random.below(both.users.len())];
        let mut request = Request::new(method, &path).body(b"");
        if let Some(token) = token {
            request = request.token(token);
        }
        let [theirs, ours] =
            [&both.swift, &both.ours].map(|nginx| nginx.send(&request).unwrap().status);
        let what = format!("{name}: {method} {path}: Swift {theirs}, nginx {ours}, seed {seed}");
        let (theirs, ours) = (Outcome::of(theirs), Outcome::of(ours));
        let is_swifts_own = ["/info", "/healthcheck"].iter().any(|own| {
            path.strip_prefix(own).is_some_and(|it| it.is_empty() || it.starts_with('?'))
        });
        match ours {
            Outcome::Done => assert_ne!(theirs, Outcome::Refused, "{what}"),
            // 400 is for a path that could be another one to Swift.
            Outcome::Refused if !is_swifts_own => assert_ne!(theirs, Outcome::Done, "{what}"),
            _ => {}
        }
        *tally.entry((theirs, ours)).or_insert(0) += 1;
    }
    println!("Swift, nginx: {tally:#?}");
    for both in [Outcome::Done, Outcome::Refused] {
        assert!(tally.get(&(both, both)).is_some_and(|seen| *seen > 50), "{both:?}: {tally:?}");
    }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Outcome {
    Done,
    /// The path, the method or the name is wrong, or nothing is there.
    Impossible,
    Refused,
}

impl Outcome {
    fn of(status: u16) -> Self {
        match status {
            401 | 403 => Self::Refused,
            400.. => Self::Impossible,
            _ => Self::Done,
        }
    }
}

fn path(random: &mut Random, own: &str, other: &str) -> String {
    let mut path = if random.percent(70) { own.to_owned() } else { String::new() };
    for _ in 0..random.below(6) {
        match random.below(20) {
            0..=3 => path += own,
            4 => path += other,
            5 => path += &own.replace("AUTH_", "SERVICE_"),
            6..=8 => path = format!("{path}/{CONTAINER}"),
            _ => path += random.pick(PIECES),
        }
    }
    if path.starts_with('/') {
        path
    } else {
        format!("/{path}")
    }
}

const CONTAINER: &str = "odd-paths";

const PIECES: &[&str] = &[
    "/",
    "/",
    "//",
    "/o",
    "/o",
    "/v1",
    "/v1.0",
    "/V1",
    "AUTH_",
    "%41UTH_",
    "SERVICE_",
    "%2F",
    "%2f",
    ".",
    "..",
    "/.",
    "/..",
    "%2e",
    "%2E%2e",
    "?",
    "?format=json",
    "%",
    "%zz",
    "%00",
    "%20",
    "%25",
    "%3F",
    "%23",
    "%ff",
    "%C3%A9",
    "é",
    "+",
    ";",
    ";x",
    "\\",
    "#",
    "~",
    "*",
    ":",
    "@",
    "'",
    "&",
    "=",
    "info",
    "/info",
    "/healthcheck",
];

const SEED: u64 = 20_261_130;
const CASES: u64 = 1000;
