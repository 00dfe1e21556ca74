//! What the parts of a token's way cost, without nginx.

use std::hint::black_box;
use std::io::Read as _;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use base64::engine::general_purpose::URL_SAFE;
use base64::Engine as _;
use flate2::read::ZlibDecoder;
use keystone_testbed::mint::{self, new_audit_id, new_uuid, Revoked};
use keystone_testbed::now;
use keystone_testbed::pki::Pki;
use keystone_token::cms::Signers;
use keystone_token::format::HashAlgorithm;
use keystone_token::headers::user_headers;
use keystone_token::identity::Identity;
use keystone_token::record::Record;
use keystone_token::revocation::RevocationList;
use keystone_token::swift::{self, AccountPath, Decision, Options};
use keystone_token::token::{self, ParsedToken, VerifiedToken};
use keystone_zone::{Cache, CacheParams, Key, Verdict, WORD};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::sign::{Signer, Verifier};

use crate::figure::Figure;
use crate::report::median;
use crate::tokens::{self, PROJECT};
use crate::Failure;

/// The parts, and what they cost each time they were measured.
pub struct Parts(Vec<Part>);

struct Part {
    name: &'static str,
    /// Does it once, with the token of this number.
    run: Box<dyn FnMut(usize)>,
    nanoseconds: Vec<f64>,
}

impl Parts {
    /// Prepares the parts of the way of these tokens.
    pub fn new(pki: &Pki, tokens: &[String]) -> Result<Self, Failure> {
        let tokens: Rc<[String]> = tokens.iter().take(TOKENS).cloned().collect();
        let time = now();
        let pem = |text: String| text.into_bytes();
        let signers =
            Signers::from_pem(&pem(pki.signing.pem()?), &pem(pki.authority.pem()?), time)?;
        let parsed: Rc<[ParsedToken<'static>]> = tokens
            .iter()
            .map(|token| token::parse(token.clone().leak().as_bytes()))
            .collect::<Result<_, _>>()?;
        let verified: Vec<VerifiedToken<'static>> = parsed
            .iter()
            .map(|parsed| parsed.clone().verify(&signers, time))
            .collect::<Result<_, _>>()?;
        let identities: Rc<[Identity]> =
            verified.iter().map(|token| token.identity().clone()).collect();
        let records: Rc<[Vec<u8>]> =
            identities.iter().map(|it| it.to_record(false).0.to_bytes()).collect();

        let mut parts = Self(Vec::new());
        parts.add_verification(pki, &tokens, &parsed, Rc::new(signers))?;
        parts.add_compression(pki)?;
        parts.add_revocation(verified)?;
        parts.add("identity to record", move |at| {
            black_box(identities[at].to_record(false));
        });
        parts.add_cache(tokens, &records);
        parts.add_record(records)?;
        Ok(parts)
    }

    /// The form of a token, its signature and its content: each by itself, and all together.
    fn add_verification(
        &mut self,
        pki: &Pki,
        tokens: &Rc<[String]>,
        parsed: &Rc<[ParsedToken<'static>]>,
        signers: Rc<Signers>,
    ) -> Result<(), Failure> {
        let time = now();
        let texts = tokens.clone();
        self.add("take a token apart (base64, CMS)", move |at| {
            let _ = black_box(token::parse(texts[at].as_bytes()));
        });
        let (texts, trusted) = (parsed.clone(), signers.clone());
        self.add("its signature", move |at| {
            let _ = black_box(trusted.verify(texts[at].signed_data(), time));
        });
        let public = pki.signing.certificate.public_key()?;
        let (texts, signing) = (parsed.clone(), &pki.signing.key);
        let signatures: Vec<_> = texts
            .iter()
            .map(|text| {
                let content = text.signed_data().content();
                Signer::new(MessageDigest::sha256(), signing)?.sign_oneshot_to_vec(content)
            })
            .collect::<Result<_, ErrorStack>>()?;
        self.add("its signature by a bare EVP_DigestVerify", move |at| {
            let verified = Verifier::new(MessageDigest::sha256(), &public).and_then(|mut it| {
                it.verify_oneshot(&signatures[at], texts[at].signed_data().content())
            });
            assert!(matches!(verified, Ok(true)));
        });
        let texts = parsed.clone();
        self.add("its content, as an identity", move |at| {
            let _ = black_box(Identity::from_json(texts[at].signed_data().content()));
        });
        let texts = tokens.clone();
        self.add("all of that, and its expiry", move |at| {
            let parsed = token::parse(texts[at].as_bytes());
            let _ = black_box(parsed.and_then(|parsed| parsed.verify(&signers, time)));
        });
        Ok(())
    }

    fn add_compression(&mut self, pki: &Pki) -> Result<(), Failure> {
        let compressed: Vec<_> =
            tokens::sign_pkiz(&pki.signing, TOKENS, 3600)?.into_iter().map(stream).collect();
        let streams = compressed.clone();
        self.add(INFLATE, move |at| {
            let _ = black_box(inflate(&streams[at].1));
        });
        self.add("take a PKIZ token apart", move |at| {
            let _ = black_box(token::parse(compressed[at].0.as_bytes()));
        });
        Ok(())
    }

    fn add_revocation(&mut self, verified: Vec<VerifiedToken<'static>>) -> Result<(), Failure> {
        let revoked: Vec<_> = (0..REVOKED).map(|_| Revoked::audit_id(new_audit_id())).collect();
        let list = RevocationList::from_json(mint::revocation_list(&revoked).as_bytes())?;
        let revoked: Vec<_> = (0..REVOKED).map(|_| Revoked::id(new_uuid())).collect();
        let bare_list = RevocationList::from_json(mint::revocation_list(&revoked).as_bytes())?;

        let tokens = verified.clone();
        self.add("is it revoked (a list of 200)", move |at| {
            black_box(list.revokes(&tokens[at], &[HashAlgorithm::Md5]));
        });
        self.add("is it revoked (200 without audit ids)", move |at| {
            black_box(bare_list.revokes(&verified[at], &[HashAlgorithm::Md5]));
        });
        Ok(())
    }

    fn add_cache(&mut self, tokens: Rc<[String]>, records: &Rc<[Vec<u8>]>) {
        let zone: Rc<[AtomicU64]> = (0..ZONE / WORD).map(|_| AtomicU64::new(0)).collect();
        let keys: Rc<[Key]> = tokens.iter().map(|token| key(token)).collect();
        for (key, record) in keys.iter().zip(records.iter()) {
            Cache::new(&zone).insert(key, &Verdict::Valid(record), u64::MAX, &MOMENT);
        }

        self.add("its key in the cache (BLAKE3)", move |at| {
            black_box(key(&tokens[at]));
        });
        let (names, words) = (keys.clone(), zone.clone());
        self.add("look it up in the cache", move |at| {
            let mut out = Vec::new();
            black_box(Cache::new(&words).lookup(&names[at], &MOMENT, &mut out));
            black_box(out);
        });
        let values = records.clone();
        self.add("put it into the cache", move |at| {
            let verdict = Verdict::Valid(&values[at]);
            Cache::new(&zone).insert(&keys[at], &verdict, u64::MAX, &MOMENT);
        });
    }

    /// What a request with a known token does with its record.
    fn add_record(&mut self, records: Rc<[Vec<u8>]>) -> Result<(), Failure> {
        let values = records.clone();
        self.add("view a record", move |at| {
            let _ = black_box(Record::new(&values[at]));
        });
        let values = records.clone();
        let options = Options {
            operator_roles: Some(["admin", "member"].map(str::to_owned).into()),
            ..Options::default()
        };
        let accounts = swift::Settings::new(&options)?;
        let object = format!("/v1/AUTH_{PROJECT}/c/file");
        self.add("an operator's object: the decision", move |at| {
            let Ok(record) = Record::new(&values[at]) else { return };
            let normalised = black_box(object.as_bytes());
            let Some(path) = AccountPath::split(normalised) else { return };
            let user = Some(&record);
            let (service, referer) = (None, None);
            let asked = swift::Request { method: "GET", path: &path, user, service, referer };
            let same = swift::names_the_same(black_box(object.as_bytes()), normalised);
            assert!(same && accounts.authorize(&asked, None) == Decision::Allow);
        });
        self.add("view a record, all its headers", move |at| {
            if let Ok(record) = Record::new(&records[at]) {
                user_headers(&record).for_each(|header| {
                    black_box(header);
                });
            }
        });
        Ok(())
    }

    fn add(&mut self, name: &'static str, run: impl FnMut(usize) + 'static) {
        self.0.push(Part { name, run: Box::new(run), nanoseconds: Vec::new() });
    }

    /// Measures each part for a while.
    pub fn measure(&mut self) {
        for part in &mut self.0 {
            let start = Instant::now();
            // Batches so short that what disturbs some of them leaves the median alone.
            for first in (0..TOKENS).step_by(BATCH).cycle() {
                let begin = Instant::now();
                (first..first + BATCH).for_each(|at| (part.run)(at));
                part.nanoseconds.push(begin.elapsed().as_secs_f64() * 1e9 / BATCH as f64);
                if start.elapsed() > TIME {
                    break;
                }
            }
        }
    }

    /// Their names.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|part| part.name).collect()
    }

    /// Does one part in [`counted`], for a tool that counts what that takes.
    pub fn count(&mut self, index: usize) {
        if let Some(part) = self.0.get_mut(index) {
            // What is had once is no part of the cost.
            (0..COUNTED).for_each(|at| (part.run)(at));
            counted(&mut *part.run);
        }
    }

    /// What one of them costs, in microseconds.
    pub fn median(&self, name: &str) -> f64 {
        let part = self.0.iter().find(|part| part.name == name);
        median(part.into_iter().flat_map(|part| &part.nanoseconds).map(|time| time / 1e3))
    }

    /// What they cost.
    pub fn figures(&self) -> Vec<Figure> {
        let micros = |part: &Part| part.nanoseconds.iter().map(|time| time / 1e3).collect();
        self.0.iter().map(|part| Figure::new(part.name, "µs", micros(part))).collect()
    }
}

/// Does a part [`COUNTED`] times. The tool knows this function by its name.
#[inline(never)]
fn counted(run: &mut dyn FnMut(usize)) {
    (COUNTED..2 * COUNTED).for_each(run);
}

/// A PKIZ token, and the zlib stream in it.
fn stream(token: String) -> (String, Vec<u8>) {
    let stream = URL_SAFE.decode(token.trim_start_matches("PKIZ_")).unwrap_or_default();
    (token, stream)
}

/// As anybody would: into memory that is there.
fn inflate(stream: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut inflated = Vec::with_capacity(INFLATED);
    ZlibDecoder::new(stream).read_to_end(&mut inflated)?;
    Ok(inflated)
}

/// As the module makes it.
fn key(token: &str) -> Key {
    let mut hasher = blake3::Hasher::new_keyed(&[7; 32]);
    hasher.update(token.as_bytes());
    hasher.update(&[0; 8]);
    let digest = hasher.finalize();
    let mut key = [0; 4];
    for (word, part) in key.iter_mut().zip(digest.as_bytes().chunks_exact(WORD)) {
        *word = part.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    key
}

/// The name of the part by which PKIZ tokens are measured.
pub const INFLATE: &str = "inflate a PKIZ token";
/// Room for what is in one.
const INFLATED: usize = 16 << 10;

/// Different ones, for the processor learns the way of a single one by heart.
pub const TOKENS: usize = 256;
const BATCH: usize = 16;
/// As many tokens are done before something is counted, and as many are counted.
pub const COUNTED: usize = 16;
const REVOKED: usize = 200;
const MOMENT: CacheParams =
    CacheParams { generation: 1, now: 1, tick: 1, valid_for: 3600, refused_for: 60 };
const ZONE: usize = 4 << 20;
const TIME: Duration = Duration::from_millis(20);
