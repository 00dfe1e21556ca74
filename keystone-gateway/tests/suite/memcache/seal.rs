//! Entries: what counts, and what does not.

use keystone_gateway::memcache::seal::{Content, Entry, OpenError, Seal, SealError, Strategy};
use keystone_gateway::memcache::MAX_VALUE;
use keystone_token::identity::Identity;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, Index};

const STRATEGIES: [Strategy; 3] = [Strategy::Encrypt, Strategy::Mac, Strategy::None];
const SECRET: &[u8] = b"swordfish";
const SCOPE: &[u8] = b"https://identity.example.com:5000";
const TOKEN: &[u8] = b"gAAAAABtoken";
const NOW: i64 = 1_700_000_000;
const HOUR: i64 = 3_600;

fn seal(strategy: Strategy) -> Seal {
    Seal::new(strategy, Some(SECRET)).unwrap()
}

fn entry(strategy: Strategy) -> Entry {
    seal(strategy).entry(SCOPE, TOKEN).unwrap()
}

fn content() -> Content {
    let identity = Identity {
        user_name: Some("Ärztin of the ward".into()),
        roles: vec!["admin".into()],
        expires_at: NOW + HOUR,
        ..Identity::default()
    };
    let record = identity.to_record(true).0.to_bytes();
    Content { made_at: NOW, expires_at: NOW + HOUR, record }
}

#[track_caller]
fn assert_forged(result: Result<Content, OpenError>) {
    match result {
        Err(OpenError::Forged | OpenError::Foreign) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn strategies_are_named_without_case() {
    for (name, strategy) in [
        ("Encrypt", Strategy::Encrypt),
        ("ENCRYPT", Strategy::Encrypt),
        ("MAC", Strategy::Mac),
        ("mac", Strategy::Mac),
        ("None", Strategy::None),
    ] {
        assert_eq!(name.parse(), Ok(strategy));
        assert_eq!(strategy.as_str().parse(), Ok(strategy));
    }
    for name in ["", "hmac", "encrypt ", "MACC"] {
        assert!(name.parse::<Strategy>().is_err(), "{name}");
    }
}

#[test]
fn a_secret_is_needed_where_it_protects() {
    for strategy in [Strategy::Encrypt, Strategy::Mac] {
        assert!(matches!(Seal::new(strategy, None), Err(SealError::NoSecret)));
        assert!(matches!(Seal::new(strategy, Some(b"")), Err(SealError::NoSecret)));
    }
    assert!(Seal::new(Strategy::None, None).is_ok());
}

#[test]
fn what_is_sealed_comes_back() {
    for strategy in STRATEGIES {
        let value = entry(strategy).seal(&content()).unwrap();
        // Another gateway has the secret, and makes the rest itself.
        let opened = entry(strategy).open(&value, NOW, 300).unwrap();
        assert_eq!(opened, content());
    }
}

/// A fleet may run two versions of the module: a change here needs another magic.
#[test]
fn names_and_values_are_what_they_always_were() {
    let names = [
        (
            Strategy::None,
            "keystone/2ba218ca091d1d40b779918a56f198bd86b06e0af462b8f9a142b97799228e2f",
        ),
        (
            Strategy::Mac,
            "keystone/00767ef683d1e3f3ce14ed0c5a5b52c91f0715ed932ee744bfb9666aa3f5fd52",
        ),
        (
            Strategy::Encrypt,
            "keystone/4319328ac58c8d8088b271862d7f0f81c19d0ee11da9e3a7ee9b05d0f50211eb",
        ),
    ];
    for (strategy, name) in names {
        assert_eq!(entry(strategy).name().as_str(), name);
    }

    let identity =
        Identity { roles: vec!["admin".into()], expires_at: 2_000_000_000, ..Identity::default() };
    let record = identity.to_record(false).0.to_bytes();
    let content = Content { made_at: NOW, expires_at: identity.expires_at, record };
    let value = entry(Strategy::Mac).seal(&content).unwrap();
    let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, MAC_VALUE);
}

/// Computed with the HMAC of Python.
const MAC_VALUE: &str = "\
    4b4d43316d00f153650000000000943577000000004b54523300e0000000943577000000000000000000000000000\
    000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
    000000000500000019000000190000001900000019000000190000001900000061646d696e323033332d30352d313\
    85430333a33333a32305a14a4029deee98261134bad203a68f1e3ecaa1ee000c7d83e9d2e3c327ff45276";

#[test]
fn names_have_one_length_and_tell_nothing() {
    for strategy in STRATEGIES {
        let mut names = Vec::new();
        for len in [0, 1, 32, 200, 5_000, 100_000] {
            let token = vec![b'a'; len];
            let entry = seal(strategy).entry(SCOPE, &token).unwrap();
            assert_eq!(entry.name().as_str().len(), 73);
            assert!(entry.name().as_str().bytes().all(|byte| byte.is_ascii_graphic()));
            names.push(entry.name().clone());
        }
        names.dedup();
        assert_eq!(names.len(), 6);
    }
    assert_eq!(format!("{:?}", seal(Strategy::Mac)), "Seal(mac)");
}

#[test]
fn scope_token_secret_and_strategy_each_name_another_entry() {
    let names = [
        entry(Strategy::Mac),
        entry(Strategy::Encrypt),
        entry(Strategy::None),
        seal(Strategy::Mac).entry(SCOPE, b"other").unwrap(),
        seal(Strategy::Mac).entry(b"other", TOKEN).unwrap(),
        // the same bytes, divided elsewhere
        seal(Strategy::Mac).entry(&SCOPE[..9], &[&SCOPE[9..], TOKEN].concat()).unwrap(),
        Seal::new(Strategy::Mac, Some(b"other")).unwrap().entry(SCOPE, TOKEN).unwrap(),
    ];
    let value = names[0].seal(&content()).unwrap();
    for (at, entry) in names.iter().enumerate() {
        let same = names.iter().filter(|other| other.name() == entry.name()).count();
        assert_eq!(same, 1, "{at}");
        if at > 0 {
            assert_forged(entry.open(&value, NOW, 300));
        }
    }
    // Without a secret all agree, whatever is set.
    let open = Seal::new(Strategy::None, None).unwrap().entry(SCOPE, TOKEN).unwrap();
    assert_eq!(open.name(), entry(Strategy::None).name());
}

#[test]
fn encrypted_entries_show_nothing_and_are_never_the_same() {
    let entry = entry(Strategy::Encrypt);
    let (one, two) = (entry.seal(&content()).unwrap(), entry.seal(&content()).unwrap());
    assert_ne!(one, two);
    for word in ["admin", "ward", "KTR3"] {
        let shows = |value: &[u8]| value.windows(word.len()).any(|part| part == word.as_bytes());
        assert!(!shows(&one), "{word}");
        assert!(shows(&content().record), "{word}");
    }
}

#[test]
fn an_entry_counts_while_it_is_young_and_its_token_lives() {
    for strategy in STRATEGIES {
        let entry = entry(strategy);
        let value = entry.seal(&content()).unwrap();
        let open = |now, max_age| entry.open(&value, now, max_age);
        assert!(open(NOW + 299, 300).is_ok());
        assert!(matches!(open(NOW + 300, 300), Err(OpenError::Old)));
        assert!(matches!(open(NOW, 0), Err(OpenError::Old)));
        assert!(open(NOW + HOUR - 1, HOUR).is_ok());
        assert!(matches!(open(NOW + HOUR, 2 * HOUR), Err(OpenError::Expired)));
        // clocks of two gateways differ a bit
        assert!(open(NOW - 30, 300).is_ok());
        assert!(matches!(open(NOW - 30, 0), Err(OpenError::Old)));
        assert!(matches!(open(NOW - 31, 300), Err(OpenError::Future)));
    }
}

#[test]
fn the_sooner_of_two_expiries_counts() {
    let entry = entry(Strategy::Mac);
    let sooner = Content { expires_at: NOW + 10, ..content() };
    let value = entry.seal(&sooner).unwrap();
    assert!(matches!(entry.open(&value, NOW + 10, 300), Err(OpenError::Expired)));
    let later = Content { expires_at: NOW + 9 * HOUR, ..content() };
    let value = entry.seal(&later).unwrap();
    assert!(matches!(entry.open(&value, NOW + HOUR, 2 * HOUR), Err(OpenError::Expired)));
}

#[test]
fn times_at_the_edge_of_numbers() {
    for made_at in [i64::MIN, i64::MAX] {
        for expires_at in [i64::MIN, i64::MAX] {
            let entry = entry(Strategy::None);
            let content = Content { made_at, expires_at, ..content() };
            let value = entry.seal(&content).unwrap();
            for now in [0, NOW, i64::MAX] {
                assert!(entry.open(&value, now, 300).is_err());
            }
        }
    }
}

#[test]
fn what_is_no_record_does_not_count() {
    for strategy in STRATEGIES {
        let entry = entry(strategy);
        for record in [&b""[..], b"KTR1", b"{\"access\": {}}"] {
            let content = Content { record: record.to_vec(), ..content() };
            let value = entry.seal(&content).unwrap();
            assert!(matches!(entry.open(&value, NOW, 300), Err(OpenError::Record)));
        }
    }
}

#[test]
fn sizes_are_bounded() {
    for strategy in STRATEGIES {
        let entry = entry(strategy);
        let longest = Content { record: vec![0; MAX_VALUE - 53], ..content() };
        assert!(entry.seal(&longest).unwrap().len() <= MAX_VALUE);
        let longer = Content { record: vec![0; MAX_VALUE - 52], ..content() };
        assert!(matches!(entry.seal(&longer), Err(SealError::TooLarge)));
        let value = vec![0; MAX_VALUE + 1];
        assert!(matches!(entry.open(&value, NOW, 300), Err(OpenError::TooLarge)));
    }
}

proptest! {
    #[test]
    fn an_entry_under_another_name_does_not_count(
        strategy in select(&STRATEGIES), a in vec(any::<u8>(), 0..80), b in vec(any::<u8>(), 0..80),
    ) {
        prop_assume!(a != b);
        let seal = seal(strategy);
        let (a, b) = (seal.entry(SCOPE, &a).unwrap(), seal.entry(SCOPE, &b).unwrap());
        prop_assert_ne!(a.name(), b.name());
        let value = a.seal(&content()).unwrap();
        prop_assert!(matches!(b.open(&value, NOW, 300), Err(OpenError::Forged)));
    }

    #[test]
    fn a_changed_entry_does_not_count(
        strategy in select(&STRATEGIES), at in any::<Index>(), bit in 0..8, cut in any::<Index>(),
        more in vec(any::<u8>(), 1..40),
    ) {
        let entry = entry(strategy);
        let value = entry.seal(&content()).unwrap();
        let mut flipped = value.clone();
        flipped[at.index(value.len())] ^= 1u8 << bit;
        assert_forged(entry.open(&flipped, NOW, 300));
        assert_forged(entry.open(&value[..cut.index(value.len())], NOW, 300));
        assert_forged(entry.open(&[&value[..], &more].concat(), NOW, 300));
    }

    #[test]
    fn any_bytes_may_be_opened(strategy in select(&STRATEGIES), bytes in vec(any::<u8>(), 0..200)) {
        let entry = entry(strategy);
        assert_forged(entry.open(&bytes, NOW, 300));
        let value = entry.seal(&content()).unwrap();
        assert_forged(entry.open(&[&value[..5], &bytes].concat(), NOW, 300));
    }
}
