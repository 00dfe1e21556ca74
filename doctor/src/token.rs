//! The command `token`: what a token is, and what the module would do with it.
//!
//! The token itself is shown nowhere; what names it is its hash, as in the module.

mod conditions;
mod facts;
mod judge;
mod online;

use std::io::{self, Read};

use keystone_token::format::HashAlgorithm;
use keystone_token::headers::trim_blanks;
use zeroize::Zeroizing;

use crate::check::Machine;
use crate::conf::Conf;
use crate::report::{Decision, Section};

pub use self::facts::Facts;

/// Reads a token, and drops the end of its line, and blanks as the module drops them.
pub fn read(input: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut token = Zeroizing::new(Vec::with_capacity(MAX_TOKEN));
    input.take(MAX_TOKEN as u64).read_to_end(&mut token)?;
    for end in [b'\n', b'\r'] {
        if token.last() == Some(&end) {
            token.pop();
        }
    }
    Ok(Zeroizing::new(trim_blanks(&token).to_vec()))
}

/// Explains the token, for each identity service.
pub fn run(
    token: &[u8],
    conf: &Conf,
    machine: &Machine,
    online: bool,
) -> (Facts, Vec<Section>, Decision) {
    let mut algorithms: Vec<HashAlgorithm> = Vec::new();
    for algorithm in conf.services.iter().flat_map(|service| &service.settings.hash_algorithms) {
        if !algorithms.contains(algorithm) {
            algorithms.push(*algorithm);
        }
    }
    let mut facts = Facts::of(token, &algorithms);
    let mut sections = Vec::new();
    for service in &conf.services {
        let mut judge = judge::Judge::new(token, service, conf, machine, online);
        let verdict = judge.verdict();
        if let Some(identity) = &judge.identity {
            facts.identify(identity, true);
        }
        sections.push(Section {
            name: format!("identity service {}", service.name()),
            users: service.users.clone(),
            verdict: Some(verdict),
            checks: judge.checks,
        });
    }
    // Where servers ask different Keystones, a token is good if one of them takes it.
    let decisions = sections.iter().filter_map(|section| section.verdict.as_ref());
    let decision = decisions.map(|verdict| verdict.decision).min().unwrap_or(Decision::Unknown);
    (facts, sections, decision)
}

/// No token is as long, and no header buffer.
const MAX_TOKEN: usize = 1 << 20;
