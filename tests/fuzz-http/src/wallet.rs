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
        let signer = &pki.signing;
        let user = Grants { valid: 1, ..Grants::NONE };
        let operator = Grants { swift: 1, ..user };
        let admin = Grants { admin: 1, ..operator };

        let users = [
            (&["role1", "role2"], user),
            (&["role1", "swiftoperator"], operator),
            (&["role2", "admin"], admin),
        ];
        for (number, (roles, grants)) in users.into_iter().enumerate() {
            let id = format!("known-user-{number}");
            wallet.users.insert(id.clone());
            let like = |payload: Payload| {
                let payload = payload.user(&id, "user").roles(roles).expires_in(LONGEST_RUN);
                payload.audit_ids(&[&new_audit_id()])
            };
            for payload in [like(Payload::v3()), like(Payload::v2())] {
                wallet.valid.push(Token::opening(grants, payload.pki(signer)?));
                wallet.valid.push(Token::opening(grants, payload.pkiz(signer)?));
            }
            for _ in 0..ONLINE {
                for payload in [like(Payload::v3()), like(Payload::v2())] {
                    let text = new_uuid();
                    identities.iter().for_each(|identity| identity.know(&text, &payload));
                    wallet.valid.push(Token::opening(grants, text));
                }
            }
        }

        let service = Payload::v3_service().expires_in(LONGEST_RUN);
        wallet.services.push(Token::bad(service.pki(signer)?));
        let text = new_uuid();
        identities.iter().for_each(|identity| identity.know(&text, &service));
        wallet.services.push(Token::bad(text));

        let fresh = || Payload::v3().expires_in(LONGEST_RUN).audit_ids(&[&new_audit_id()]);
        // No client has a certificate.
        let bound = || fresh().bound_to_certificate("a certificate");
        let bound_online = new_uuid();
        identities.iter().for_each(|identity| identity.know(&bound_online, &bound()));
        let revoked = fresh().pki(signer)?;
        identities.iter().for_each(|identity| identity.revoke_token(&revoked));
        let fernet = format!("gAAAAA{}", "Bd-_".repeat(40));
        let jws = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl";
        for text in [
            revoked,
            bound().pki(signer)?,
            bound_online,
            fresh().pki(&stranger.signing)?,
            fresh().pkiz(&stranger.signing)?,
            Payload::v2_unscoped().pki(signer)?,
            fernet,
            jws.into(),
            new_uuid(),
            "MIInot-a-token".into(),
            "PKIZ_not-a-token".into(),
            "PKIZ_eJzLSM3JyQcABiwCFQ==".into(),
            "a".into(),
            "x".repeat(3000),
        ] {
            wallet.bad.push(Token::bad(text));
        }

        let helped = || fresh().user(HELPED, "user");
        let no_rules = Vec::<String>::new();
        for payload in [
            helped().expires_in(-60),
            helped().bind("kerberos", "user@REALM"),
            helped().access_rules(no_rules.into()),
        ] {
            for text in [payload.pki(signer)?, payload.pkiz(signer)?] {
                wallet.bad.push(Token { text, grants: user, needs_service: true });
            }
        }
        Ok(wallet)
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
