//! What servers answer.

use std::num::NonZeroU32;

use keystone_gateway::memcache::protocol::{
    get, set, GetReader, GetResponse, ProtocolError, SetReader,
};
use keystone_gateway::memcache::seal::{Name, Seal, Strategy};
use keystone_gateway::memcache::MAX_VALUE;
use proptest::collection::vec;
use proptest::prelude::*;

fn name() -> Name {
    let seal = Seal::new(Strategy::None, None).unwrap();
    seal.entry(b"scope", b"token").unwrap().name().clone()
}

fn value_answer(value: &[u8]) -> Vec<u8> {
    let head = format!("VALUE {} 0 {}\r\n", name().as_str(), value.len());
    [head.as_bytes(), value, b"\r\nEND\r\n"].concat()
}

fn read_get(answer: &[u8]) -> Result<Option<GetResponse>, ProtocolError> {
    GetReader::new(&name()).push(answer)
}

fn read_set(answer: &[u8]) -> Result<Option<()>, ProtocolError> {
    SetReader::default().push(answer)
}

#[test]
fn commands() {
    let name = name();
    assert_eq!(get(&name), format!("get {}\r\n", name.as_str()).into_bytes());
    let ttl = |seconds| NonZeroU32::new(seconds).unwrap();
    let stored = set(&name, ttl(300), b"a\r\nb");
    assert_eq!(stored, format!("set {} 0 300 4\r\na\r\nb\r\n", name.as_str()).into_bytes());
    let long = set(&name, ttl(u32::MAX), b"");
    assert_eq!(long, format!("set {} 0 2592000 0\r\n\r\n", name.as_str()).into_bytes());
}

#[test]
fn answers() {
    assert_eq!(read_get(b"END\r\n"), Ok(Some(GetResponse::Nothing)));
    for value in [&b""[..], b"x", b"\r\nEND\r\n", b"END\r\n", &[0, 255, 13, 10]] {
        assert_eq!(read_get(&value_answer(value)), Ok(Some(GetResponse::Value(value.to_vec()))));
    }
    let largest = vec![7; MAX_VALUE];
    assert_eq!(read_get(&value_answer(&largest)), Ok(Some(GetResponse::Value(largest))));
    assert_eq!(read_set(b"STORED\r\n"), Ok(Some(())));
}

#[test]
fn refusals_differ_from_nonsense() {
    let long = format!("SERVER_ERROR {}\r\n", "x".repeat(300));
    for refusal in [
        "ERROR\r\n",
        "CLIENT_ERROR bad command line format\r\n",
        "SERVER_ERROR out of memory\r\n",
        &long,
    ] {
        let text = &refusal[..(refusal.len() - 2).min(100)];
        let refused = ProtocolError::Refused(text.to_owned());
        assert_eq!(read_get(refusal.as_bytes()), Err(refused.clone()));
        assert_eq!(read_set(refusal.as_bytes()), Err(refused));
    }
    let refused = ProtocolError::Refused("NOT_STORED".to_owned());
    assert_eq!(read_set(b"NOT_STORED\r\n"), Err(refused));
}

#[test]
fn what_memcached_does_not_say() {
    let name = name();
    let name = name.as_str();
    let nonsense = [
        "\r\n".to_owned(),
        "\n".to_owned(),
        "END\n".to_owned(),
        "END\rx".to_owned(),
        "END \r\n".to_owned(),
        "end\r\n".to_owned(),
        "EN\r\n".to_owned(),
        "ERRORS\r\n".to_owned(),
        "HTTP/1.1 400 Bad Request\r\n".to_owned(),
        "VALUE\r\n".to_owned(),
        "VALUE other 0 1\r\n".to_owned(),
        format!("VALUE {name}x 0 1\r\n"),
        format!("VALUE {name}\r\n"),
        format!("VALUE {name} 0\r\n"),
        format!("VALUE {name} 0 \r\n"),
        format!("VALUE {name}  0 1\r\n"),
        format!("VALUE {name} 0 +1\r\n"),
        format!("VALUE {name} 0 -1\r\n"),
        format!("VALUE {name} -1 1\r\n"),
        format!("VALUE {name} 0 1 \r\n"),
        format!("VALUE {name} 0 1 99\r\n"),
        format!("VALUE {name} 4294967296 1\r\n"),
        format!("VALUE {name} 0 99999999999999999999\r\n"),
        format!("VALUE {name} 0 1\r\nx\r\nVALUE"),
        format!("VALUE {name} 0 1\r\nxx"),
        format!("VALUE {name} 0 1\r\nxEND\r\n"),
        "x".repeat(512),
    ];
    for answer in nonsense {
        assert_eq!(read_get(answer.as_bytes()), Err(ProtocolError::InvalidResponse), "{answer:?}");
        assert_eq!(read_set(answer.as_bytes()), Err(ProtocolError::InvalidResponse), "{answer:?}");
    }
    assert_eq!(read_get(b"STORED\r\n"), Err(ProtocolError::InvalidResponse));
    assert_eq!(read_get(b"NOT_STORED\r\n"), Err(ProtocolError::InvalidResponse));
    assert_eq!(read_set(b"END\r\n"), Err(ProtocolError::InvalidResponse));
    assert_eq!(read_get("VALUE \u{e9}\r\n".as_bytes()), Err(ProtocolError::InvalidResponse));
}

#[test]
fn more_than_was_asked_for() {
    assert_eq!(read_get(b"END\r\nEND\r\n"), Err(ProtocolError::Surplus));
    assert_eq!(read_set(b"STORED\r\nS"), Err(ProtocolError::Surplus));
    let twice = [value_answer(b"x"), value_answer(b"x")].concat();
    assert_eq!(read_get(&twice), Err(ProtocolError::Surplus));
    let large = format!("VALUE {} 0 {}\r\n", name().as_str(), MAX_VALUE + 1);
    assert_eq!(read_get(large.as_bytes()), Err(ProtocolError::TooLarge));
}

proptest! {
    #[test]
    fn an_answer_may_come_in_any_pieces(
        value in vec(any::<u8>(), 0..300), cuts in vec(any::<proptest::sample::Index>(), 0..8),
    ) {
        let answer = value_answer(&value);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(answer.len())).collect();
        cuts.sort_unstable();
        cuts.push(answer.len());
        let mut reader = GetReader::new(&name());
        let mut start = 0;
        for end in cuts {
            let got = reader.push(&answer[start..end]);
            let expected = (end == answer.len()).then(|| GetResponse::Value(value.clone()));
            prop_assert_eq!(got, Ok(expected));
            start = end;
        }
    }

    #[test]
    fn any_bytes_may_come(pieces in vec(vec(any::<u8>(), 0..60), 0..6), headed in any::<bool>()) {
        let mut readers = (GetReader::new(&name()), SetReader::default());
        if headed {
            let head = format!("VALUE {} 0 50\r\n", name().as_str());
            prop_assert_eq!(readers.0.push(head.as_bytes()), Ok(None));
        }
        for piece in &pieces {
            let _ = readers.0.push(piece);
            let _ = readers.1.push(piece);
        }
    }

    #[test]
    fn text_like_an_answer_may_come(
        text in "(VALUE|END|STORED|ERROR| |0|9|\r|\n|keystone/){0,20}",
    ) {
        if let Ok(Some(got)) = read_get(text.as_bytes()) {
            prop_assert_eq!(got, GetResponse::Nothing);
            prop_assert_eq!(&text, "END\r\n");
        }
        if let Ok(Some(())) = read_set(text.as_bytes()) {
            prop_assert_eq!(&text, "STORED\r\n");
        }
    }
}
