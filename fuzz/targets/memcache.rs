//! What memcached answers, in two pieces: the first byte says how long the first one is. It makes
//! no difference, and nothing that was not sealed is taken for an answer of Keystone.
#![no_main]

use keystone_gateway::memcache::protocol::{GetReader, GetResponse, SetReader};
use keystone_gateway::memcache::seal::{Entry, Seal, Strategy};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&at, answer)) = input.split_first() else { return };
    let entry = entry(Strategy::Encrypt);
    // The fuzzer does not know the name.
    let answer = with_name(answer, entry.name().as_str());
    let (first, second) = answer.split_at(usize::from(at).min(answer.len()));

    let whole = GetReader::new(entry.name()).push(&answer);
    let mut reader = GetReader::new(entry.name());
    let pieces = match reader.push(first) {
        Ok(None) => reader.push(second),
        early => early,
    };
    if let (Ok(Some(whole)), Ok(Some(pieces))) = (&whole, &pieces) {
        assert_eq!(whole, pieces);
    }
    if let Ok(Some(GetResponse::Value(value))) = whole {
        for strategy in [Strategy::Encrypt, Strategy::Mac] {
            let opened = self::entry(strategy).open(&value, NOW, 300);
            assert!(opened.is_err(), "nobody has sealed that");
        }
        let _ = self::entry(Strategy::None).open(&value, NOW, 300);
    }
    let mut reader = SetReader::default();
    if let Ok(None) = reader.push(first) {
        let _ = reader.push(second);
    }
});

fn entry(strategy: Strategy) -> Entry {
    let seal = Seal::new(strategy, Some(b"a secret of nobody")).expect("a seal");
    seal.entry(b"scope", b"token").expect("an entry")
}

/// With the first `NAME` replaced by `name`.
fn with_name(answer: &[u8], name: &str) -> Vec<u8> {
    let at = answer.windows(4).position(|it| it == b"NAME");
    let Some(at) = at else { return answer.to_vec() };
    [&answer[..at], name.as_bytes(), &answer[at + 4..]].concat()
}

const NOW: i64 = 1_900_000_000;
