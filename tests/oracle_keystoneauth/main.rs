//! The module's reading of Swift's rules beside Swift 2.38's own keystoneauth: the same decision on
//! every request, and the same texts taken for an ACL, apart from what [`differences`] shows. See
//! tests/swift/keystoneauth.py.
//!
//! `KEYSTONE_ORACLE_SEED` generates other requests, `KEYSTONE_ORACLE_CASES` more of them.

use std::collections::BTreeMap;

use keystone_testbed::random::{number, Random};
use keystone_token::swift::{acl_kind, AccountPath, Decision};
use serde_json::{json, Value};

use cases::{Case, Outcome};
use settings::Scene;

mod cases;
mod differences;
mod oracle;
mod settings;
mod strings;

#[test]
fn requests_are_decided_as_keystoneauth_decides() {
    let seed = number("KEYSTONE_ORACLE_SEED", SEED);
    let count = number("KEYSTONE_ORACLE_CASES", CASES) as usize;
    println!("seed {seed}, {count} requests");
    let mut random = Random::new(seed);
    let scenes: Vec<_> = (0..SCENES).map(|_| Scene::new(&mut random)).collect();
    let cases: Vec<_> = (0..count)
        .map(|number| {
            let scene = &scenes[number % SCENES];
            (scene, Case::new(&mut random, scene))
        })
        .collect();
    let questions: Vec<_> = cases.iter().map(|(scene, case)| case.question(scene)).collect();
    let oracle::Answers { is_strict, answers } = oracle::ask(&questions);

    let (mut tally, mut failures) = (BTreeMap::new(), 0);
    let mut count_one = |what: String| *tally.entry(what).or_insert(0) += 1;
    for ((scene, case), answer) in cases.iter().zip(&answers) {
        if !is_strict && case.referer.as_deref().is_some_and(is_read_by_older_pythons) {
            count_one("left out: another Python".into());
            continue;
        }
        let (ours, theirs) = (case.outcome(scene), outcome(answer));
        count_one(format!("{theirs:?}"));
        for said in answer["said"].as_array().expect("a list") {
            count_one(said.as_str().expect("a text").to_owned());
        }
        if answer["raised"] == true {
            count_one("raised".into());
        }
        // A path that names nothing has no decision here.
        let is_difference = case.is_options_of_nothing() && ours == Outcome::NoPath;
        if ours != theirs && !is_difference {
            failures += 1;
            println!("\nSwift says {theirs:?}, the module {ours:?}:\n{case:?}\n{}", scene.options);
        }
    }
    println!("{tally:#?}");
    assert_eq!(failures, 0, "see above; the seed was {seed}");
    let is_expected = |what: &str| is_strict || what != "raised";
    for (what, share) in EXPECTED.iter().filter(|(what, _)| is_expected(what)) {
        let seen = tally.get(*what).copied().unwrap_or(0) * 10_000 / count;
        assert!(seen >= *share, "{what}: seen in {seen} of 10000 requests only");
    }
}

#[test]
fn the_acl_that_counts_is_the_one_that_the_controllers_ask_with() {
    let paths = ["/v1/AUTH_p", "/v1/AUTH_p/", "/v1/AUTH_p/c", "/v1/AUTH_p/c/", "/v1/AUTH_p/c/o/p"];
    let methods =
        ["GET", "HEAD", "PUT", "POST", "DELETE", "COPY", "OPTIONS", "PATCH", "UPDATE", "MOVE"];
    let asked: Vec<_> =
        paths.iter().flat_map(|path| methods.iter().map(move |method| (path, method))).collect();
    let question = |(path, method): &(_, _)| json!({"ask": "acl", "method": method, "path": path});
    let questions: Vec<_> = asked.iter().map(question).collect();
    let mut known = 0;
    for ((path, method), answer) in asked.iter().zip(oracle::ask(&questions).answers) {
        let split = AccountPath::split(path.as_bytes()).expect("a path");
        let ours = acl_kind(method, &split).map(|kind| format!("{kind:?}"));
        assert_eq!(ours.as_deref(), answer["acl"].as_str(), "{method} {path}");
        known += usize::from(answer["is_known"] == true);
    }
    // Accounts, containers and objects have the same six methods.
    assert_eq!(known, paths.len() * 6);
}

#[test]
fn keystone_edge_gives_keystoneauth_the_identity_that_authtoken_gives() {
    let mut random = Random::new(number("KEYSTONE_ORACLE_SEED", SEED) + 2);
    let questions: Vec<_> = (0..5000).map(|_| cases::edge_question(&mut random)).collect();
    for (question, answer) in questions.iter().zip(oracle::ask(&questions).answers) {
        assert!(answer["behind_authtoken"].is_object(), "{answer}");
        assert_eq!(answer["behind_edge"], answer["behind_authtoken"], "{question}");
    }
}

/// Those before the last of 3.11.
fn is_read_by_older_pythons(referer: &[u8]) -> bool {
    referer.iter().any(|byte| matches!(byte, b'[' | b']')) || referer.first() <= Some(&b' ')
}

fn outcome(answer: &Value) -> Outcome {
    match answer["decision"].as_str() {
        Some("Allow") => Outcome::Decided(Decision::Allow),
        Some("Forbidden") => Outcome::Decided(Decision::Forbidden),
        Some("NotFound") => Outcome::NoPath,
        Some("Unauthorized") => Outcome::Decided(Decision::Unauthorized),
        decision => {
            assert!(decision.is_none() && answer["error"].is_string(), "{answer}");
            Outcome::NoAcl
        }
    }
}

/// How often each must have been seen in 10000 requests at least. What is not an outcome is what
/// keystoneauth tells its log on the way there.
const EXPECTED: &[(&str, usize)] = &[
    ("Decided(Allow)", 2000),
    ("Decided(Forbidden)", 2000),
    ("Decided(Unauthorized)", 1000),
    ("NoAcl", 150),
    ("NoPath", 100),
    ("Authorizing as anonymous", 1000),
    ("Names allowed in acls.", 1000),
    ("User %s has reseller admin authorizing", 150),
    ("User %s has system reader authorizing", 50),
    ("User %s with role(s) %s has project reader authorizing", 40),
    ("User %s:%s is not allowed to delete its own account", 80),
    ("allow user with role(s) %s as account admin", 250),
    ("authorizing %s via referer ACL", 100),
    ("by referrer: False", 80),
    ("by referrer: None", 2000),
    ("raised", 25),
    ("tenant mismatch: %s != %s", 1000),
    ("user %s allowed in ACL authorizing.", 200),
    ("user %s:%s allowed in ACL: %s authorizing", 40),
];

const SEED: u64 = 20_261_125;
const CASES: u64 = 50_000;
const SCENES: usize = 100;
