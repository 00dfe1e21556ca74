//! The tokens that requests carry, and what each of them opens.

use keystone_testbed::identity::Identity;
use keystone_testbed::mint::{new_audit_id, new_uuid, Payload};
use keystone_testbed::pki::Pki;
use keystone_testbed::random::Random;
use keystone_testbed::Result;
use std::collections::HashSet;

use crate::guard::Grants;

/// A token of the wallet.
#[derive(Clone, Debug)]
pub struct Token {
    /// The value of the header.
    pub text: String,
    /// The locations that accept it.
    pub grants: Grants,
    /// Whether it opens that only where a valid service token comes along: such a one lets a token
    /// pass that has expired, is bound to another, or has access rules.
    pub needs_service: bool,
}

impl Token {
    fn opening(grants: Grants, text: impl Into<String>) -> Self {
        Self { text: text.into(), grants, needs_service: false }
    }

    fn bad(text: impl Into<String>) -> Self {
        Self::opening(Grants::NONE, text)
    }
}

/// Every token that a case may use.
#[derive(Debug, Default)]
pub struct Wallet {
    valid: Vec<Token>,
    bad: Vec<Token>,
    services: Vec<Token>,
    users: HashSet<String>,
}

/// The project whose account and roles the valid tokens have.
pub const PROJECT: &str = "tenant_id1";

impl Wallet {
    /// Makes tokens of all kinds; the identity services know those that they must judge.
    pub fn new(pki: &Pki, stranger: &Pki, identities: &[&Identity]) -> Result<Self> {
        let mut wallet = Self::default();
        let user = Grants { valid: 1, ..Grants::NONE };
        let operator = Grants { swift: 1, ..user };
        let admin = Grants { admin: 1, ..operator };
        wallet.add_user(&["role1", "role2"], user, pki, identities)?;
        wallet.add_user(&["role1", "swiftoperator"], operator, pki, identities)?;
        wallet.add_user(&["role2", "admin"], admin, pki, identities)?;
        wallet.add_services(pki, identities)?;
        wallet.add_bad(pki, stranger, identities)?;
        wallet.add_helped(pki, user)?;
        Ok(wallet)
    }

    /// Valid tokens of another user, of every kind.
    fn add_user(
        &mut self,
        roles: &[&str],
        grants: Grants,
        pki: &Pki,
        identities: &[&Identity],
    ) -> Result<()> {
        let id = format!("known-user-{}", self.users.len());
        self.users.insert(id.clone());
        let like = |payload: Payload| {
            let payload = payload.user(&id, "user").roles(roles).expires_in(LONGEST_RUN);
            payload.audit_ids(&[&new_audit_id()])
        };
        for payload in [like(Payload::v3()), like(Payload::v2())] {
            self.valid.push(Token::opening(grants, payload.pki(&pki.signing)?));
            self.valid.push(Token::opening(grants, payload.pkiz(&pki.signing)?));
        }
        for _ in 0..ONLINE {
            for payload in [like(Payload::v3()), like(Payload::v2())] {
                self.valid.push(Token::opening(grants, online(&payload, identities)));
            }
        }
        Ok(())
    }

    fn add_services(&mut self, pki: &Pki, identities: &[&Identity]) -> Result<()> {
        let service = Payload::v3_service().expires_in(LONGEST_RUN);
        self.services.push(Token::bad(service.pki(&pki.signing)?));
        self.services.push(Token::bad(online(&service, identities)));
        Ok(())
    }

    /// Tokens that nothing accepts.
    fn add_bad(&mut self, pki: &Pki, stranger: &Pki, identities: &[&Identity]) -> Result<()> {
        let signer = &pki.signing;
        // No client has a certificate.
        let bound = || fresh().bound_to_certificate("a certificate");
        let revoked = fresh().pki(signer)?;
        identities.iter().for_each(|identity| identity.revoke_token(&revoked));
        let texts = [
            revoked,
            bound().pki(signer)?,
            online(&bound(), identities),
            fresh().pki(&stranger.signing)?,
            fresh().pkiz(&stranger.signing)?,
            Payload::v2_unscoped().pki(signer)?,
            format!("gAAAAA{}", "Bd-_".repeat(40)),
            "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl".into(),
            new_uuid(),
            "MIInot-a-token".into(),
            "PKIZ_not-a-token".into(),
            "PKIZ_eJzLSM3JyQcABiwCFQ==".into(),
            "a".into(),
            "x".repeat(3000),
        ];
        self.bad.extend(texts.into_iter().map(Token::bad));
        Ok(())
    }

    /// Tokens that pass only with a valid service token.
    fn add_helped(&mut self, pki: &Pki, grants: Grants) -> Result<()> {
        let helped = || fresh().user(HELPED, "user");
        let no_rules = Vec::<String>::new();
        for payload in [
            helped().expires_in(-60),
            helped().bind("kerberos", "user@REALM"),
            helped().access_rules(no_rules.into()),
        ] {
            for text in [payload.pki(&pki.signing)?, payload.pkiz(&pki.signing)?] {
                self.bad.push(Token { text, grants, needs_service: true });
            }
        }
        Ok(())
    }

    /// One of the valid tokens, chosen at random.
    pub fn valid(&self, random: &mut Random) -> &Token {
        &self.valid[random.below(self.valid.len())]
    }

    /// Something else that is sent as a token: on its own, none of these opens anything.
    pub fn bad(&self, random: &mut Random) -> &Token {
        &self.bad[random.below(self.bad.len())]
    }

    /// A token of a service.
    pub fn service(&self, random: &mut Random) -> &Token {
        &self.services[random.below(self.services.len())]
    }

    /// Whether this user has a token that is valid, or would be with that of a service.
    pub fn is_user(&self, id: &str, with_service: bool) -> bool {
        self.users.contains(id) || with_service && id == HELPED
    }

    /// A part of each token that is long enough to tell that it was logged.
    pub fn traces(&self) -> impl Iterator<Item = &str> {
        let all = self.valid.iter().chain(&self.bad).chain(&self.services);
        let long = all.filter(|token| token.text.len() >= TRACE && !token.text.starts_with("xx"));
        long.map(|token| &token.text[token.text.len() - TRACE..])
    }
}

/// A token that is like no other.
fn fresh() -> Payload {
    Payload::v3().expires_in(LONGEST_RUN).audit_ids(&[&new_audit_id()])
}

/// A token that only the identity services can judge, and know.
fn online(payload: &Payload, identities: &[&Identity]) -> String {
    let text = new_uuid();
    identities.iter().for_each(|identity| identity.know(&text, payload));
    text
}

/// How many tokens of a user only the identity service can judge.
const ONLINE: usize = 8;
/// Whose tokens are valid only with that of a service.
const HELPED: &str = "known-with-service";
/// For how long tokens are valid, in seconds: a run that outlives them says little.
const LONGEST_RUN: i64 = 7 * 86_400;
const TRACE: usize = 32;

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A wallet whose tokens no nginx knows.
    pub fn small() -> Wallet {
        let (pki, stranger) = (Pki::new().unwrap(), Pki::new().unwrap());
        Wallet::new(&pki, &stranger, &[]).unwrap()
    }

    #[test]
    fn every_token_leaves_a_trace_of_its_own() {
        let wallet = small();
        let traces: Vec<_> = wallet.traces().collect();
        let different: HashSet<_> = traces.iter().collect();
        assert!(traces.len() > 50);
        assert_eq!(different.len(), traces.len());
    }
}
