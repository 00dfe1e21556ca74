//! A PKI token's way through `keystone-token`, step by step: `make bench-criterion`.

// The macros of Criterion make functions without a text.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{criterion_group, criterion_main, BatchSize, Criterion};
use keystone_testbed::mint::{self, new_audit_id, Revoked};
use keystone_testbed::now;
use keystone_testbed::pki::Pki;
use keystone_token::cms::Signers;
use keystone_token::format::HashAlgorithm;
use keystone_token::headers::user_headers;
use keystone_token::identity::Identity;
use keystone_token::record::Record;
use keystone_token::revocation::RevocationList;
use keystone_token::token::{self, VerifiedToken};

#[path = "../src/tokens.rs"]
#[allow(dead_code)] // The measurement of requests uses the rest.
mod tokens;

type Failure = Box<dyn std::error::Error>;

/// Different tokens, for the processor learns the way of a single one by heart.
const TOKENS: usize = 64;

/// Entries of the revocation lists.
const LISTS: [usize; 3] = [0, 1_000, 100_000];

fn steps(criterion: &mut Criterion) {
    if let Err(error) = try_steps(criterion) {
        eprintln!("cannot prepare the tokens: {error}");
        std::process::exit(1);
    }
}

fn try_steps(criterion: &mut Criterion) -> Result<(), Failure> {
    let (pki, time) = (Pki::new()?, now());
    let (signing, authority) = (pki.signing.pem()?, pki.authority.pem()?);
    let signers = Signers::from_pem(signing.as_bytes(), authority.as_bytes(), time)?;
    let texts = tokens::sign(&pki.signing, TOKENS, 3600)?;
    let parsed: Vec<_> =
        texts.iter().map(|text| token::parse(text.as_bytes())).collect::<Result<_, _>>()?;
    let verified: Vec<VerifiedToken<'_>> = parsed
        .iter()
        .map(|parsed| parsed.clone().verify(&signers, time))
        .collect::<Result<_, _>>()?;
    let identities: Vec<_> = verified.iter().map(VerifiedToken::identity).collect();
    let records: Vec<_> =
        identities.iter().map(|identity| identity.to_record(false).0.to_bytes()).collect();

    let mut group = criterion.benchmark_group("pki");
    let mut step = |name: &str, run: &dyn Fn(usize)| {
        let mut at = 0;
        let mut next = || {
            at = (at + 1) % TOKENS;
            at
        };
        group.bench_function(name, |bencher| {
            bencher.iter_batched(&mut next, run, BatchSize::SmallInput);
        });
    };
    step("base64_and_cms", &|at| {
        let _ = black_box(token::parse(texts[at].as_bytes()));
    });
    step("signature", &|at| {
        let _ = black_box(signers.verify(parsed[at].signed_data(), time));
    });
    step("json_to_identity", &|at| {
        let _ = black_box(Identity::from_json(parsed[at].signed_data().content()));
    });
    for len in LISTS {
        let revoked: Vec<_> = (0..len).map(|_| Revoked::audit_id(new_audit_id())).collect();
        let list = RevocationList::from_json(mint::revocation_list(&revoked).as_bytes())?;
        step(&format!("revocation/{len}"), &|at| {
            black_box(list.revokes(&verified[at], &[HashAlgorithm::Md5]));
        });
    }
    step("identity_to_record", &|at| {
        black_box(identities[at].to_record(false));
    });
    step("view_record", &|at| {
        let _ = black_box(Record::new(&records[at]));
    });
    step("headers_of_record", &|at| {
        if let Ok(record) = Record::new(&records[at]) {
            user_headers(&record).for_each(|header| _ = black_box(header));
        }
    });
    group.finish();
    Ok(())
}

criterion_group!(token, steps);
criterion_main!(token);
