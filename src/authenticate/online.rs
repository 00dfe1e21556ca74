//! Tokens that only the identity service can judge.

use keystone_token::api::Validation;
use keystone_token::online::{self, OnlineRules};
use keystone_token::record::Record;
use keystone_token::refusal::Refusal;
use zeroize::Zeroizing;

use super::{Authenticator, Step, Wait};
use crate::identity::ValidationRequest;
use crate::net::now_sec;
use crate::token_cache::Source;
use crate::token_state::TokenState;
use crate::zone::{Answer, Identity};

impl Authenticator<'_> {
    /// What the identity service says of the token, now or a short while ago.
    pub(super) fn online(&self, token: &[u8]) -> Step {
        if let Some(validated) = self.request_token.validated() {
            return match validated {
                Ok(Answer::Valid(identity)) => Ok(TokenState::Valid(identity)),
                Ok(Answer::Refused(refusal)) => self.refuse(&refusal, None),
                Err(reason) => self.unavailable(&reason),
            };
        }
        if let Some(found) = self.look_up_online(token) {
            return Ok(found);
        }
        // Behind the caches, since it costs more than they do. It is not remembered: with other
        // keys a token that is refused now may pass.
        let text = match self.check_form(token) {
            Ok(text) => text,
            Err(refusal) => return self.refuse_judged(&refusal, None),
        };

        self.service.note_online_use();
        let source = if self.allow_expired { Source::OnlineExpired } else { Source::Online };
        let key = self.cache().key(token, source);
        let valid_key = match source {
            Source::Online => key,
            _ => self.cache().key(token, Source::Online),
        };
        let validation = ValidationRequest {
            token: Zeroizing::new(text.to_owned()),
            how: Validation { allow_expired: self.allow_expired, catalog: self.keeps_catalog() },
            key,
            valid_key,
            params: self.cache().params(source),
            client: self.request.client_address(),
        };
        match self.service.may_ask(&validation) {
            Ok(()) => Err(Wait::Validation(Box::new(validation))),
            Err(bound) => self.limited(bound),
        }
    }

    /// Refuses what no identity service would accept, without asking it.
    fn check_form<'t>(&self, token: &'t [u8]) -> Result<&'t str, Refusal> {
        let rules = OnlineRules {
            now: now_sec(),
            allow_expired: self.allow_expired,
            jws_keys: self.server.jws_keys.as_deref(),
        };
        online::check_form(token, &rules)
    }

    fn look_up_online(&self, token: &[u8]) -> Option<TokenState<Identity>> {
        let still_holds = |record: &Record<'_>| !self.service.may_be_revoked(token, record);
        if !self.allow_expired {
            return self.look_up(token, Source::Online, still_holds);
        }
        // A refusal there is one of a token that must not have expired.
        let looked = self.cache().lookup(token, Source::Online, still_holds);
        if let Some(TokenState::Valid(identity)) = &looked.found {
            self.note_look(&looked, Source::Online);
            return Some(TokenState::Valid(identity.clone()));
        }
        self.look_up(token, Source::OnlineExpired, |_| false)
    }
}
