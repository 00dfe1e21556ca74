//! Paths and referers of nasty characters: what Python makes of them, and what the module does.

use keystone_testbed::random::{number, Random};
use keystone_token::swift::{AccountPath, Acl, AclKind, Decision, Options, Request, Settings};
use serde_json::{json, Value};

use crate::oracle::{self, latin1};
use crate::{is_read_by_older_pythons, SEED};

#[test]
fn paths_are_split_as_split_path_splits_them() {
    let mut random = Random::new(number("KEYSTONE_ORACLE_SEED", SEED));
    let paths: Vec<_> = (0..COUNT).map(|_| string(&mut random, "/", PATH, 10)).collect();
    let question = |path: &Vec<u8>| json!({"ask": "split", "path": latin1(path)});
    let questions: Vec<_> = paths.iter().map(question).collect();
    let mut split = 0;
    for (path, answer) in paths.iter().zip(oracle::ask(&questions).answers) {
        let ours = AccountPath::split(path).map(|it| {
            [Some(it.version), it.account, it.container, it.object].map(|it| it.map(latin1))
        });
        // An empty name counts as none in keystoneauth, and both are none here.
        let is_name = |name: &Value| name.as_str().filter(|it| !it.is_empty()).map(str::to_owned);
        let theirs = answer["segments"].as_array().map(|it| it.iter().map(is_name).collect());
        assert_eq!(ours.map(Vec::from), theirs, "{:?}", latin1(path));
        split += usize::from(answer["segments"].is_array());
    }
    assert!((COUNT / 10..COUNT * 9 / 10).contains(&split), "{split} of {COUNT} could be split");
}

#[test]
fn the_host_of_a_referer_is_the_one_that_urlparse_finds() {
    let mut random = Random::new(number("KEYSTONE_ORACLE_SEED", SEED) + 1);
    let referers: Vec<_> = (0..COUNT)
        .map(|_| {
            let scheme = random.pick(&["http://", "http://", "http://", "//", "http://[", ""]);
            string(&mut random, scheme, REFERER, 8)
        })
        .collect();
    let question = |referer: &Vec<u8>| json!({"ask": "host", "referer": latin1(referer)});
    let questions: Vec<_> = referers.iter().map(question).collect();
    let oracle::Answers { is_strict, answers } = oracle::ask(&questions);

    let [mut raised, mut unknown, mut named] = [0; 3];
    for (referer, answer) in referers.iter().zip(&answers) {
        if !is_strict && is_read_by_older_pythons(referer) {
            continue;
        }
        let shown = latin1(referer);
        let Some(host) = answer["host"].as_str() else {
            assert!(!is_allowed(".r:*", referer), "Python raises an exception over {shown:?}");
            raised += 1;
            continue;
        };
        assert!(is_allowed(".r:*", referer), "{shown:?} is of {host:?}");
        // These an ACL cannot name.
        let is_odd = host.contains(',') || host.starts_with(['-', '*']) || host == ".";
        if is_odd || host.trim_matches(|it: char| it <= ' ' || it.is_whitespace()) != host {
            continue;
        }
        assert!(is_allowed(&format!(".r:{host}"), referer), "{shown:?} is of {host:?}");
        assert!(!is_allowed(&format!(".r:*,.r:-{host}"), referer), "{shown:?} is of {host:?}");
        // One that begins with a dot is also the end of others.
        assert!(host.starts_with('.') || !is_allowed(&format!(".r:x{host}"), referer));
        *if host == "unknown" { &mut unknown } else { &mut named } += 1;
    }
    println!("{raised} raised, {unknown} unknown, {named} named");
    assert!(!is_strict || raised > COUNT / 50, "{raised} of {COUNT} raised an exception");
    assert!(unknown > COUNT / 50 && named > COUNT / 6, "{unknown} and {named} of {COUNT}");
}

/// Whether the referer lets anybody read an object.
fn is_allowed(acl: &str, referer: &[u8]) -> bool {
    let settings = Settings::new(&Options::default()).expect("settings");
    let acl = Acl::parse(AclKind::Read, acl).unwrap_or_else(|error| panic!("{acl:?}: {error}"));
    let path = AccountPath::split(b"/v1/AUTH_x/c/o").expect("a path");
    let request =
        Request { method: "GET", path: &path, user: None, service: None, referer: Some(referer) };
    settings.authorize(&request, Some(&acl)) == Decision::Allow
}

fn string(random: &mut Random, start: &str, pieces: &[&[u8]], most: usize) -> Vec<u8> {
    let mut string = start.as_bytes().to_vec();
    for _ in 0..random.below(most + 1) {
        string.extend(random.pick(pieces));
    }
    string
}

const PATH: &[&[u8]] = &[
    b"/",
    b"/",
    b"/",
    b"v1",
    b"a",
    b"c",
    b"o",
    b".",
    b"..",
    b"%2F",
    b"%",
    b" ",
    b"\0",
    b"\n",
    b"?",
    b"#",
    b"\\",
    b";",
    b"\xe9",
    b"\xc3\xa9",
    b"\xff",
    b"\x85",
    b"\xa0",
];

const REFERER: &[&[u8]] = &[
    b"a",
    b"B",
    b"example.com",
    b".",
    b"-",
    b"*",
    b"@",
    b":",
    b"/",
    b"//",
    b"http://",
    b"[",
    b"]",
    b"[::1]",
    b"::",
    b":",
    b"1",
    b"0",
    b"ffff",
    b"1.2.3.4",
    b"01",
    b"::1",
    b"1:2:3:4:5:6:7",
    b"v1.",
    b"V1.",
    b"v",
    b"g",
    b"%",
    b"%25",
    b"?",
    b"#",
    b"\\",
    b" ",
    b"\t",
    b"\n",
    b"\r",
    b"\0",
    b"\x1f",
    b"\x0b",
    b"\x7f",
    b",",
    b"\xe9",
    b"\xc3\xa9",
    b"\xc0",
    b"\xff",
    b"\xa0",
    b"\x85",
    b"\xaa",
    b"\xb5",
    b"\xdf",
    b"80",
];

const COUNT: usize = 30_000;
