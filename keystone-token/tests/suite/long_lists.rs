//! Long revocation lists, which are read, verified and searched in steps.

use keystone_token::api::signed_revocation_list;
use keystone_token::cms::{SignatureError, SignedData};
use keystone_token::format::{armour_pki, armour_pkiz, HashAlgorithm};
use keystone_token::revocation::{
    AnswerReader, ListReader, NameSet, RevocationError, RevocationList, SignedList, Summary,
};
use keystone_token::token::parse;

use crate::pki::{v3_payload, NOW, PKI};

/// The list, read in steps of so many entries, and how many steps that takes.
fn read_list(json: &[u8], step: usize) -> Result<(Summary, NameSet, usize), RevocationError> {
    let (mut reader, mut names) = (ListReader::new(json), NameSet::default());
    for steps in 1.. {
        if let Some(summary) = reader.read(step, |name| names.insert(name))? {
            return Ok((summary, names, steps));
        }
    }
    unreachable!()
}

fn read_answer(body: &[u8], step: usize) -> Option<SignedList> {
    let mut reader = AnswerReader::new(body);
    loop {
        if let Some(list) = reader.read(step).ok()? {
            return Some(list);
        }
    }
}

fn long_list(entries: usize) -> String {
    let entry = |n| format!(r#"{{"expires": "x", "id": "{n:032x}", "audit_id": "audit-{n}"}}"#);
    format!(r#"{{"revoked": [{}]}}"#, (0..entries).map(entry).collect::<Vec<_>>().join(", "))
}

#[test]
fn in_steps_a_list_is_the_same_as_in_one() {
    for json in [
        &long_list(1_000),
        "{}",
        r#"{"revoked": []}"#,
        r#" { "revoked" : [ {} , {"id": "a"} , {"audit_id": "b", "x": [{}]} ] } "#,
        r#"{"revoked": null}"#,
        r#"{"revoked": [{"id": "a"}, {"id": "b"}], "links": {"next": null}}"#,
        r#"{"links": 1, "revoked": [{"id": "]}"}, {"id": null, "audit_id": "\u0041"}]}"#,
    ] {
        let whole = RevocationList::from_json(json.as_bytes()).unwrap();
        for step in [1, 2, 7, 5_000] {
            let (summary, names, steps) = read_list(json.as_bytes(), step).unwrap();
            assert_eq!(steps, summary.entries / step + 1);
            assert_eq!(RevocationList::new(summary, names), whole, "{json}");
        }
    }
}

#[test]
fn in_steps_what_is_no_list_is_an_error_too() {
    for json in [
        r#"{"revoked": [{"id": "a"}, {"id": "b"}"#,
        r#"{"revoked": [{"id": "a"} {"id": "b"}]}"#,
        r#"{"revoked": [{"id": "a"}, ]}"#,
        r#"{"revoked": [,{"id": "a"}]}"#,
        r#"{"revoked": [{"id": "a"}, {"id": 2}]}"#,
        r#"{"revoked": [{"id": "a"}, ["b", "c"]]}"#,
        r#"{"revoked": [{"id": "a"}]} x"#,
        r#"{"revoked": [{"id": "a"}], "revoked": []}"#,
        r#"{"revoked": [{"id": "a"}], "token": {}}"#,
        r#"{"revoked": [{"id": "a"}], "access": {}}"#,
    ] {
        let error = RevocationList::from_json(json.as_bytes()).unwrap_err();
        for step in [1, 2, 100] {
            assert_eq!(read_list(json.as_bytes(), step).map(drop), Err(error), "{json}");
        }
    }
    let token = read_list(br#"{"revoked": [], "token": {}}"#, 1);
    assert_eq!(token.map(drop), Err(RevocationError::Token));
}

#[test]
fn in_steps_an_answer_is_the_same_as_in_one() {
    for len in [0, 1, 2, 44, 45, 46, 47, 48, 49, 50, 1_000] {
        let der = PKI.sign("x".repeat(len).as_bytes());
        let pem = crate::vectors::pem(&der);
        let body = format!(r#"{{"signed": {}}}"#, serde_json::to_string(&pem).unwrap());
        for step in [1, 3, 1_000] {
            let mut list = read_answer(body.as_bytes(), step).unwrap();
            assert_eq!(list.pem(), pem.as_bytes());
            assert_eq!(list.take_message().unwrap().der(), der);
        }
    }
}

#[test]
fn answers_of_other_forms_are_read_as_a_whole() {
    let der = PKI.sign(&v3_payload());
    let pem = crate::vectors::pem(&der);
    let quoted = serde_json::to_string(&pem).unwrap();
    let line = quoted.find("\\n").unwrap() + 2;
    for body in [
        format!(r#" {{ "signed" : {quoted} }} "#),
        format!(r#"{{"signed": {}}}"#, quoted.replace("-----\\n\"", "-----\"")),
        format!(r#"{{"signed": {}}}"#, quoted.replace("\\n", "\\r\\n")),
        format!(r#"{{"signed": {}}}"#, quoted.replace('/', "\\/")),
        format!(r#"{{"signed": {}}}"#, quoted.replace("\\n", "\\u000a")),
        format!(r#"{{"signed": {quoted}, "more": [1]}}"#),
        format!(r#"{{"more": "signed", "signed": {quoted}}}"#),
        format!(r#"{{"signed": {}{}}}"#, &quoted[..line], &quoted[line..]),
    ] {
        let whole = signed_revocation_list(body.as_bytes()).unwrap();
        let mut list = read_answer(body.as_bytes(), 2).unwrap();
        assert_eq!(list.take_message().unwrap().der(), der, "{body}");
        let is_cut = !whole.ends_with('\n');
        assert_eq!(list.pem(), format!("{whole}{}", if is_cut { "\n" } else { "" }).as_bytes());
    }
    for body in ["", "{", r#"{"signed": 1}"#, r#"{"signed": "-----BEGIN CMS-----\n"#] {
        assert!(read_answer(body.as_bytes(), 1).is_none(), "{body}");
    }
    for text in [
        quoted.replacen("MII", "MI\\n", 1),
        quoted.replacen("MII", "M=I", 1),
        quoted.replace("-----END", "-----MEND"),
        quoted.replacen("\\n", "\\n\\n", 1),
        quoted[..quoted.len() - 40].to_owned() + "\"",
    ] {
        let body = format!(r#"{{"signed": {text}}}"#);
        let whole = signed_revocation_list(body.as_bytes()).unwrap();
        let error = SignedData::from_pem(whole.as_bytes()).map(drop);
        assert!(error.is_err());
        let mut list = read_answer(body.as_bytes(), 1).unwrap();
        assert_eq!(list.take_message().map(drop), error, "{body}");
    }
}

#[test]
fn in_steps_a_signature_is_verified_as_in_one() {
    let content = long_list(200);
    let signed = SignedData::parse(PKI.sign(content.as_bytes())).unwrap();
    let signers = PKI.signers();
    for step in [1_000, content.len() - 1, content.len(), usize::MAX] {
        let mut verification = signers.verify_in_steps(&signed, NOW).unwrap();
        let mut steps = 1;
        while verification.update(step).unwrap() {
            steps += 1;
        }
        assert_eq!(steps, content.len().div_ceil(step));
        assert_eq!(verification.finish(), Ok(content.as_bytes()));
    }
    // Whatever is not hashed before is hashed at the end.
    let verification = signers.verify_in_steps(&signed, NOW).unwrap();
    assert_eq!(verification.finish(), Ok(content.as_bytes()));

    let mut der = signed.der().to_vec();
    let at = der.windows(7).position(|bytes| bytes == b"audit-7").unwrap();
    der[at + 6] = b'8';
    let forged = SignedData::parse(der).unwrap();
    let mut verification = signers.verify_in_steps(&forged, NOW).unwrap();
    while verification.update(100).unwrap() {}
    assert_eq!(verification.finish(), Err(SignatureError::BadSignature));
    let late = signers.verify_in_steps(&signed, i64::MAX).unwrap();
    assert_eq!(late.finish(), Err(SignatureError::Expired));
}

/// A user who is disabled, or a domain, takes all tokens with it.
#[test]
fn ten_thousand_tokens_that_are_revoked_at_once_are_all_refused() {
    let hash = |text: &str| HashAlgorithm::Md5.hex_digest(text.as_bytes());
    let token = |n: usize| {
        let payload = String::from_utf8(v3_payload()).unwrap();
        let payload = payload.replace("aaaaaaaaaaaaaaaaaaaaaa", &format!("audit-of-token-{n:07}"));
        let payload = payload.replace("bbbbbbbbbbbbbbbbbbbbbb", &format!("audit-of-first-{n:07}"));
        PKI.sign(payload.as_bytes())
    };
    // Signing takes its time: a thousand of them are tokens, by every way to name them.
    let tokens: Vec<_> = (0..1_000).map(token).collect();
    let entry = |n: usize| match tokens.get(n) {
        Some(der) if n.is_multiple_of(3) => format!(r#"{{"id": "{}"}}"#, hash(&armour_pkiz(der))),
        Some(der) if n % 3 == 1 => format!(r#"{{"id": "{}"}}"#, hash(&armour_pki(der))),
        _ => format!(r#"{{"id": "{n:032x}", "audit_id": "audit-of-first-{n:07}"}}"#),
    };
    let entries: Vec<_> = (0..10_000).map(entry).collect();
    let json = format!(r#"{{"revoked": [{}]}}"#, entries.join(", "));
    let (summary, names, _) = read_list(json.as_bytes(), 250).unwrap();
    assert_eq!(summary.entries, 10_000);
    let list = RevocationList::new(summary, names);
    let signers = PKI.signers();
    for der in &tokens {
        for text in [armour_pki(der), armour_pkiz(der)] {
            let parsed = parse(text.as_bytes()).unwrap();
            let verified = parsed.verify(&signers, NOW).unwrap();
            assert!(list.revokes(&verified, &[HashAlgorithm::Md5]));
        }
    }
    let other = armour_pki(&token(10_000));
    let verified = parse(other.as_bytes()).unwrap().verify(&signers, NOW).unwrap();
    assert!(!list.revokes(&verified, &[HashAlgorithm::Md5]));
}
