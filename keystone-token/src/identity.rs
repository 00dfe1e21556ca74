//! Who a token stands for: one typed answer from the JSON of v2 and v3, whether it was signed
//! content or came from the identity service.
//!
//! What is read, and from where, follows keystonemiddleware 4.9.1 and its keystoneauth. A document
//! that makes those raise an exception is an error here.

use serde::de::{self, Deserializer};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::Value;

use crate::catalog::Catalog;
use crate::json::{self, JsonError, Object, Text};
use crate::text;
use crate::time::{self, TimeError};

use bind::{Bind, CertificateBind};

pub use bind::CERTIFICATE;
pub use delegation::{OAuth, Trust};

mod bind;
mod delegation;

/// The content of a token. A value that exists has no control character in it, apart from
/// the JSON texts, where they are escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The id of the user that the token was issued to.
    pub user_id: Option<String>,
    /// The name of the user that the token was issued to.
    pub user_name: Option<String>,
    /// The id of the user's domain; v3 only.
    pub user_domain_id: Option<String>,
    /// The name of the user's domain; v3 only.
    pub user_domain_name: Option<String>,
    /// The id of the project (tenant) that the token is scoped to.
    pub project_id: Option<String>,
    /// Name of the project.
    pub project_name: Option<String>,
    /// The id of the project's domain; v3 only.
    pub project_domain_id: Option<String>,
    /// The name of the project's domain; v3 only.
    pub project_domain_name: Option<String>,
    /// The id of the domain that the token is scoped to.
    pub domain_id: Option<String>,
    /// Name of the domain.
    pub domain_name: Option<String>,
    /// `all` for a token that is scoped to the whole system.
    pub system_scope: Option<String>,
    /// The names of the roles, none with a comma or with a blank at an end.
    pub roles: Vec<String>,
    /// The names that were left out: one with a comma reads as two in a list, and one with a blank
    /// at an end as the name without it, since those who read such a list strip its elements.
    pub omitted_roles: Vec<String>,
    /// The ids of all the roles, in no order that means anything; `None` where they are not known,
    /// as in the oldest v2 tokens.
    pub role_ids: Option<Vec<String>>,
    /// Whether the scope is the admin project; true where the token does not say.
    pub is_admin_project: bool,
    /// Unix seconds.
    pub expires_at: i64,
    /// Seconds since 1970, a fraction dropped; `None` where the token does not say.
    pub issued_at: Option<i64>,
    /// The token's own audit id, then that of the token it was made from.
    pub audit_ids: Vec<String>,
    /// The service catalog, where the token has one.
    pub catalog: Option<Catalog>,
    /// The mechanisms to which the token is bound, with what each wants to see: a text, or JSON
    /// where it is something else. `None` and empty are the same to the policy. A certificate of an
    /// OAuth 2.0 client is one of them, [`CERTIFICATE`], with its
    /// [thumbprint](crate::thumbprint).
    pub bind: Option<Vec<(String, String)>>,
    /// The access rules of an application credential, as JSON.
    pub access_rules: Option<String>,
    /// The trust that the token is scoped to.
    pub trust: Option<Trust<String>>,
    /// The OAuth 1.0 delegation that the token was issued for; v3 only.
    pub oauth: Option<OAuth<String>>,
}

impl Identity {
    /// Reads `{"access": ...}` (v2) or `{"token": ...}` (v3), whichever it is; both at once are
    /// an error. Members that nothing here needs are ignored.
    pub fn from_json(json: &[u8]) -> Result<Self, IdentityError> {
        Document::parse(json)?.into_identity()
    }

    /// Reads what Keystone says of a token. This is as [`from_json`](Self::from_json), which takes
    /// all that auth_token takes, but an answer without something that every token has is an error.
    pub fn from_answer(json: &[u8]) -> Result<Self, IdentityError> {
        let document = Document::parse(json)?;
        document.check_complete()?;
        document.into_identity()
    }

    /// Whether a value that gets into a header, a variable or a record has a control character.
    fn has_control_character(&self) -> bool {
        let values = [
            &self.user_id,
            &self.user_name,
            &self.user_domain_id,
            &self.user_domain_name,
            &self.project_id,
            &self.project_name,
            &self.project_domain_id,
            &self.project_domain_name,
            &self.domain_id,
            &self.domain_name,
            &self.access_rules,
        ];
        let bind = self.bind.iter().flatten().flat_map(|(mechanism, value)| [mechanism, value]);
        let lists = self.roles.iter().chain(&self.omitted_roles).chain(&self.audit_ids).chain(bind);
        values.into_iter().flatten().chain(lists).any(|value| text::has_control_character(value))
    }
}

/// Why a document is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A value would smuggle something into a header.
    #[error("a value contains a control character")]
    ControlCharacter,
    /// It does not say when it expires, or not in a time's form.
    #[error("the expiry is missing or invalid: {0}")]
    Expiry(#[from] TimeError),
    /// Neither a v2 nor a v3 token, or both.
    #[error("the document is neither a v2 nor a v3 token")]
    Form,
    /// Not JSON, or a member of the wrong type, or a member twice.
    #[error("the document is not the JSON of a token: {0}")]
    Json(#[from] JsonError),
    /// An answer about a token without something that every token has.
    #[error("the token has no {0}")]
    Missing(&'static str),
    /// A v3 token whose user has no domain.
    #[error("the user has no domain")]
    NoDomain,
    /// A v2 token that is not scoped to a tenant.
    #[error("a v2 token needs a tenant")]
    NoTenant,
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    access: Option<Object<Access<'a>>>,
    #[serde(borrow)]
    token: Option<Object<Token<'a>>>,
}

impl<'a> Document<'a> {
    fn parse(json: &'a [u8]) -> Result<Self, IdentityError> {
        let Object(document) = json::read(json)?;
        Ok(document)
    }

    fn check_complete(&self) -> Result<(), IdentityError> {
        let access = self.access.as_ref().map(|Object(access)| access.check_complete());
        let token = self.token.as_ref().map(|Object(token)| token.check_complete());
        access.or(token).unwrap_or(Ok(()))
    }

    fn into_identity(self) -> Result<Identity, IdentityError> {
        let identity = match (self.access, self.token) {
            (Some(Object(access)), None) => access.into_identity()?,
            (None, Some(Object(token))) => token.into_identity()?,
            _ => return Err(IdentityError::Form),
        };
        match identity.has_control_character() {
            true => Err(IdentityError::ControlCharacter),
            false => Ok(identity),
        }
    }
}

/// An error if one of these has no value, or an empty one.
fn check_present(members: &[(&'static str, Option<&String>)]) -> Result<(), IdentityError> {
    let missing = members.iter().find(|(_, value)| value.is_none_or(String::is_empty));
    missing.map_or(Ok(()), |(name, _)| Err(IdentityError::Missing(name)))
}

/// A v2 token.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Access<'a> {
    token: Object<AccessToken>,
    user: Object<AccessUser>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    service_catalog: Option<&'a RawValue>,
    #[serde(borrow)]
    trust: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct AccessToken {
    #[serde(default)]
    id: Text,
    expires: Option<String>,
    #[serde(default)]
    issued_at: Text,
    #[serde(default, deserialize_with = "present")]
    tenant: Option<Option<Object<Named>>>,
    #[serde(rename = "tenantId")]
    tenant_id: Option<String>,
    audit_ids: Option<Vec<Option<String>>>,
    bind: Option<Bind>,
}

#[derive(Deserialize)]
struct AccessUser {
    id: Option<String>,
    name: Option<String>,
    username: Option<String>,
    #[serde(default, deserialize_with = "present")]
    roles: Option<Vec<Object<Role>>>,
    #[serde(rename = "tenantId", default, deserialize_with = "present")]
    tenant_id: Option<Option<String>>,
    #[serde(rename = "tenantName", default, deserialize_with = "present")]
    tenant_name: Option<Option<String>>,
}

#[derive(Deserialize)]
struct Metadata {
    roles: Option<Vec<MetadataRole>>,
}

impl Metadata {
    /// auth_token does not look at the metadata: what cannot be read is no error but not known.
    fn roles(json: &RawValue) -> Option<Vec<MetadataRole>> {
        let Object(Self { roles }) = serde_json::from_str(json.get()).ok()?;
        roles
    }
}

/// A role in the metadata is a mere id or name in all that Keystone wrote.
#[derive(Deserialize)]
#[serde(untagged)]
enum MetadataRole {
    Bare(String),
    Object(Object<Role>),
}

#[derive(Deserialize)]
struct Role {
    #[serde(default)]
    id: Text,
    name: String,
}

#[derive(Default, Deserialize)]
struct Named {
    id: Option<String>,
    name: Option<String>,
}

impl Access<'_> {
    fn check_complete(&self) -> Result<(), IdentityError> {
        let (Object(token), Object(user)) = (&self.token, &self.user);
        let name = user.name.as_ref().filter(|name| !name.is_empty()).or(user.username.as_ref());
        check_present(&[
            ("id", token.id.0.as_ref()),
            ("expiry", token.expires.as_ref()),
            ("user id", user.id.as_ref()),
            ("user name", name),
        ])
    }

    fn into_identity(self) -> Result<Identity, IdentityError> {
        let Self { token: Object(token), user: Object(user), metadata, service_catalog, trust } =
            self;
        // Where the tenant stands tells the age of the Keystone: in an object of its own; with
        // the user, whose default it was; or, before Diablo, as a mere id.
        let (project_id, project_name) = match token.tenant {
            Some(tenant) => tenant.map_or((None, None), |Object(tenant)| (tenant.id, tenant.name)),
            None => (
                user.tenant_id.unwrap_or_else(|| token.tenant_id.clone()),
                user.tenant_name.unwrap_or(token.tenant_id),
            ),
        };
        if project_id.as_deref().is_none_or(str::is_empty) {
            return Err(IdentityError::NoTenant);
        }
        let metadata_roles = metadata.and_then(Metadata::roles);
        let role_ids = match (&user.roles, &metadata_roles) {
            (Some(roles), Some(ids)) if roles.len() == ids.len() => bare_ids(ids),
            _ => None,
        };
        let (roles, omitted_roles) = match (user.roles, metadata_roles) {
            (Some(roles), _) => split_roles(roles.into_iter().map(|Object(role)| role.name)),
            (None, roles) => split_roles(roles.into_iter().flatten().map(|role| match role {
                MetadataRole::Bare(name) | MetadataRole::Object(Object(Role { name, .. })) => name,
            })),
        };
        Ok(Identity {
            user_id: user.id,
            user_name: user.name.filter(|name| !name.is_empty()).or(user.username),
            project_id,
            project_name,
            roles,
            omitted_roles,
            role_ids,
            is_admin_project: true,
            expires_at: expiry(token.expires)?,
            issued_at: issue(token.issued_at),
            audit_ids: present_ids(token.audit_ids),
            catalog: service_catalog.map(Catalog::v2),
            bind: token.bind.map(|bind| bind.0),
            trust: trust.map(Trust::new),
            ..Identity::default()
        })
    }
}

/// The member `token` of a v3 token.
#[derive(Deserialize)]
struct Token<'a> {
    user: Object<User>,
    expires_at: Option<String>,
    #[serde(default)]
    issued_at: Text,
    #[serde(default, deserialize_with = "present")]
    project: Option<Object<Project>>,
    #[serde(default, deserialize_with = "present")]
    domain: Option<Object<Named>>,
    system: Option<Object<System>>,
    #[serde(default, deserialize_with = "present")]
    roles: Option<Vec<Object<Role>>>,
    #[serde(default, deserialize_with = "present")]
    is_admin_project: Option<Option<bool>>,
    audit_ids: Option<Vec<Option<String>>>,
    bind: Option<Bind>,
    oauth2_credential: Option<Object<CertificateBind>>,
    #[serde(borrow)]
    catalog: Option<&'a RawValue>,
    #[serde(borrow)]
    application_credential: Option<Object<ApplicationCredential<'a>>>,
    #[serde(borrow, rename = "OS-TRUST:trust")]
    trust: Option<&'a RawValue>,
    #[serde(borrow, rename = "OS-OAUTH1")]
    oauth: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct User {
    id: Option<String>,
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    domain: Option<Object<Named>>,
    #[serde(rename = "OS-FEDERATION", default, deserialize_with = "present")]
    federation: Option<de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Project {
    id: Option<String>,
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    domain: Option<Object<Named>>,
}

#[derive(Deserialize)]
struct System {
    #[serde(default)]
    all: bool,
}

#[derive(Deserialize)]
struct ApplicationCredential<'a> {
    #[serde(borrow)]
    access_rules: Option<&'a RawValue>,
}

impl Token<'_> {
    fn check_complete(&self) -> Result<(), IdentityError> {
        let Object(user) = &self.user;
        check_present(&[
            ("expiry", self.expires_at.as_ref()),
            ("user id", user.id.as_ref()),
            ("user name", user.name.as_ref()),
        ])?;
        // Each scope has an id.
        if let Some(Object(project)) = &self.project {
            check_present(&[("project id", project.id.as_ref())])?;
        }
        if let Some(Object(domain)) = &self.domain {
            check_present(&[("domain id", domain.id.as_ref())])?;
        }
        Ok(())
    }

    fn into_identity(self) -> Result<Identity, IdentityError> {
        let Object(user) = self.user;
        let Object(user_domain) = user.domain.unwrap_or_default();
        let complete = user_domain.id.is_some() && user_domain.name.is_some();
        if !complete && user.federation.is_none() {
            return Err(IdentityError::NoDomain);
        }
        let (project, project_domain) = match self.project {
            Some(Object(project)) => {
                (Named { id: project.id, name: project.name }, project.domain.unwrap_or_default().0)
            }
            None => Default::default(),
        };
        let Object(domain) = self.domain.unwrap_or_default();
        let roles = self.roles.into_iter().flatten();
        let (names, role_ids): (Vec<_>, Vec<_>) =
            roles.map(|Object(Role { id: Text(id), name })| (name, id)).unzip();
        let (roles, omitted_roles) = split_roles(names.into_iter());
        let access_rules = self.application_credential.and_then(|Object(it)| it.access_rules);
        Ok(Identity {
            user_id: user.id,
            user_name: user.name,
            user_domain_id: user_domain.id,
            user_domain_name: user_domain.name,
            project_id: project.id,
            project_name: project.name,
            project_domain_id: project_domain.id,
            project_domain_name: project_domain.name,
            domain_id: domain.id,
            domain_name: domain.name,
            system_scope: self.system.filter(|Object(system)| system.all).map(|_| "all".to_owned()),
            roles,
            omitted_roles,
            role_ids: role_ids.into_iter().collect(),
            is_admin_project: self.is_admin_project.is_none_or(|it| it == Some(true)),
            expires_at: expiry(self.expires_at)?,
            issued_at: issue(self.issued_at),
            audit_ids: present_ids(self.audit_ids),
            catalog: self.catalog.map(Catalog::v3),
            bind: bind::with_certificate(self.bind, self.oauth2_credential),
            access_rules: access_rules.map(compact).transpose()?,
            trust: self.trust.map(Trust::new),
            oauth: self.oauth.map(OAuth::new),
        })
    }
}

fn expiry(text: Option<String>) -> Result<i64, TimeError> {
    time::parse(&text.unwrap_or_default())
}

fn issue(Text(text): Text) -> Option<i64> {
    time::parse(&text?).ok()
}

/// The metadata's roles, where the user's have the names: then Keystone wrote ids there.
fn bare_ids(roles: &[MetadataRole]) -> Option<Vec<String>> {
    let id = |role: &MetadataRole| match role {
        MetadataRole::Bare(id) => Text::from(Value::from(id.as_str())).0,
        MetadataRole::Object(_) => None,
    };
    roles.iter().map(id).collect()
}

fn split_roles(names: impl Iterator<Item = String>) -> (Vec<String>, Vec<String>) {
    names.partition(|name| !name.contains(',') && text::strip(name) == name)
}

/// The audit ids that are there: null stands for a parent that the token does not have.
fn present_ids(ids: Option<Vec<Option<String>>>) -> Vec<String> {
    ids.into_iter().flatten().flatten().collect()
}

/// The same JSON without white space.
fn compact(json: &RawValue) -> Result<String, JsonError> {
    let value: Value = serde_json::from_str(json.get())?;
    Ok(value.to_string())
}

/// Tells a member that is null from one that is not there. Where null means nothing, it is an
/// error with this, and not nothing at all.
fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}
