//! Keystone's revocation events (`GET /v3/OS-REVOKE/events`): which tokens are no longer valid.
//!
//! An event names properties, and revokes the tokens that have all of them and were issued no later
//! than it says. Which of a token's values a member is compared with follows Keystone's
//! `revoke_model`, of Newton (10) and of 2026 (30); where these differ, a token that either
//! would find revoked is covered.
//!
//! The events answer another question than the revocation list: not whether a token is valid, but
//! whether to ask Keystone again about one that it called valid before. So where a comparison
//! cannot be made, because the token does not tell or the event is not understood, they cover too
//! much rather than too little.
//!
//! They cannot tell what Keystone makes no events of. In 30 that is a role that was deleted or
//! taken from a user, a project or a domain that was disabled (in 10 there are events of these),
//! and an application credential that was deleted: it finds out when it is asked about the token.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{JsonError, Object, Text};
use crate::record::{Field, Record};
use crate::time;

/// The events of one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocationEvents {
    len: usize,
    /// By the first of their ids, in the order of [`Member`].
    by_id: [HashMap<Box<str>, Vec<Event>>; Member::ALL.len()],
    /// Events that have none of these ids.
    sweeping: Vec<Event>,
}

impl RevocationEvents {
    /// Reads `{"events": [...]}`; everything else is an error. Costs about a microsecond an event.
    ///
    /// An event is never one. A member of it that is not known, or has not the form it should have,
    /// does not restrict the event, and so one that is not even an object covers every token. To
    /// refuse the document instead would drop the good events in it and leave revoked tokens in the
    /// cache; to skip the event would leave those that it means. Covering too much costs a question
    /// a token.
    pub fn from_json(json: &[u8]) -> Result<Self, RevocationEventsError> {
        let Object(document): Object<Document<'_>> =
            serde_json::from_slice(json).map_err(JsonError::from)?;
        let mut events = Self { len: document.events.len(), ..Self::default() };
        for event in document.events {
            let (key, event) = Event::read(event);
            match key {
                Some((member, id)) => {
                    events.by_id[member as usize].entry(id).or_default().push(event)
                }
                None => events.sweeping.push(event),
            }
        }
        Ok(events)
    }

    /// Whether one of the events covers the token that this is the record of.
    ///
    /// Costs a look-up for each id in the token, however many events there are, and a look at the
    /// events that share one with it and at those without any. Only a token of which an id is not
    /// known, as the domains of a v2 token, is compared with all events that go by this id: some
    /// nanoseconds each.
    pub fn covers(&self, record: &Record<'_>) -> bool {
        let by_id = Member::ALL.into_iter().zip(&self.by_id).any(|(member, events)| {
            if events.is_empty() {
                return false;
            }
            match member.values(record) {
                Some(ids) => {
                    let mut named = ids.iter().filter_map(|id| events.get(*id)).flatten();
                    named.any(|event| event.covers(record))
                }
                None => events.values().flatten().any(|event| event.covers(record)),
            }
        });
        by_id || self.sweeping.iter().any(|event| event.covers(record))
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no events.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The document is not one of revocation events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the document is not the JSON of revocation events: {0}")]
pub struct RevocationEventsError(#[from] JsonError);

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

/// What a token must be, to be covered. What is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Event {
    /// Seconds since 1970: issued then or before.
    issued_before: Option<i64>,
    /// Seconds since 1970: expiring then.
    expires_at: Option<i64>,
    /// All but the one that the event is found by.
    ids: Vec<(Member, Box<str>)>,
}

impl Event {
    /// The event, and the id to find it by.
    fn read(json: &RawValue) -> (Option<(Member, Box<str>)>, Self) {
        let mut members: BTreeMap<String, Text> =
            serde_json::from_str(json.get()).unwrap_or_default();
        let mut text = |name| members.remove(name).and_then(|Text(text)| text);
        let mut time = |name| text(name).and_then(|text| time::parse(&text).ok());
        let (issued_before, expires_at) = (time("issued_before"), time("expires_at"));
        let mut ids = Member::ALL
            .into_iter()
            .filter_map(|member| Some((member, text(member.name())?.into_boxed_str())));
        (ids.next(), Self { issued_before, expires_at, ids: ids.collect() })
    }

    /// Whether the token has all that is left to compare.
    fn covers(&self, record: &Record<'_>) -> bool {
        let is_old_enough = match (self.issued_before, record.issued_at()) {
            (Some(before), Some(issued_at)) => issued_at <= before,
            _ => true,
        };
        is_old_enough
            && self.expires_at.is_none_or(|expires_at| expires_at == record.expires_at())
            && self.ids.iter().all(|(member, id)| {
                member.values(record).is_none_or(|values| values.contains(&&**id))
            })
    }
}

/// A member of an event that is an id. Those that tell the fewest tokens come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Audit,
    AuditChain,
    AccessToken,
    Trust,
    User,
    Consumer,
    Project,
    DomainScope,
    Domain,
    Role,
}

impl Member {
    /// In the order of their declaration.
    const ALL: [Self; 10] = [
        Self::Audit,
        Self::AuditChain,
        Self::AccessToken,
        Self::Trust,
        Self::User,
        Self::Consumer,
        Self::Project,
        Self::DomainScope,
        Self::Domain,
        Self::Role,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit_id",
            Self::AuditChain => "audit_chain_id",
            Self::AccessToken => "OS-OAUTH1:access_token_id",
            Self::Trust => "OS-TRUST:trust_id",
            Self::User => "user_id",
            Self::Consumer => "OS-OAUTH1:consumer_id",
            Self::Project => "project_id",
            Self::DomainScope => "domain_scope_id",
            Self::Domain => "domain_id",
            Self::Role => "role_id",
        }
    }

    /// The values of a token that it is compared with. `None` if one of them is not known, so that
    /// any might be it; none of them if the token is known to have none.
    fn values<'a>(self, record: &Record<'a>) -> Option<Vec<&'a str>> {
        match self {
            Self::Audit => one(record.audit_ids().next()),
            // The first token of a chain has only its own id, which names the chain in 10.
            Self::AuditChain => {
                let ids: Vec<_> = record.audit_ids().collect();
                (!ids.is_empty()).then_some(ids)
            }
            Self::AccessToken => record.oauth().map_or(NONE, |it| one(it.access_token_id)),
            Self::Trust => record.trust().map_or(NONE, |it| one(it.id)),
            // The trustor and the trustee count as users of the token too.
            Self::User => {
                let mut users = one(record.get(Field::UserId))?;
                if let Some(trust) = record.trust() {
                    users.extend([trust.trustor_id?, trust.trustee_id?]);
                }
                Some(users)
            }
            Self::Consumer => record.oauth().map_or(NONE, |it| one(it.consumer_id)),
            Self::Project if has_project(record) => one(record.get(Field::ProjectId)),
            Self::Project => NONE,
            Self::DomainScope => scope_domains(record),
            Self::Domain => {
                let mut domains = scope_domains(record)?;
                domains.push(record.get(Field::UserDomainId)?);
                Some(domains)
            }
            Self::Role => record.role_ids().map(Iterator::collect),
        }
    }
}

/// The domain that a token is scoped to, or that of its project, which counts as much in 10.
fn scope_domains<'a>(record: &Record<'a>) -> Option<Vec<&'a str>> {
    if has_project(record) {
        return one(record.get(Field::ProjectDomainId));
    }
    if record.get(Field::DomainName).is_none() && record.get(Field::DomainId).is_none() {
        return NONE;
    }
    one(record.get(Field::DomainId))
}

fn has_project(record: &Record<'_>) -> bool {
    record.get(Field::ProjectId).is_some() || record.get(Field::ProjectName).is_some()
}

/// A value that a token has, known or not.
fn one(id: Option<&str>) -> Option<Vec<&str>> {
    Some(vec![id?])
}

/// What a token is known not to have.
const NONE: Option<Vec<&str>> = Some(Vec::new());
