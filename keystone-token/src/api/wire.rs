//! The JSON documents of the API, as far as they are used.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::Object;

#[derive(Deserialize)]
pub(super) struct Discovery {
    pub(super) versions: Option<Value>,
    pub(super) version: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct V2Answer {
    pub(super) access: Object<V2Access>,
}

#[derive(Deserialize)]
pub(super) struct V2Access {
    pub(super) token: Object<V2Token>,
}

#[derive(Deserialize)]
pub(super) struct V2Token {
    pub(super) id: String,
    pub(super) expires: String,
    pub(super) issued_at: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct V2Validation<'a> {
    #[serde(borrow)]
    pub(super) access: Object<V2Validated<'a>>,
}

#[derive(Deserialize)]
pub(super) struct V2Validated<'a> {
    #[serde(borrow)]
    pub(super) token: Object<V2TokenId<'a>>,
}

#[derive(Deserialize)]
pub(super) struct V2TokenId<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(super) struct V3Answer {
    pub(super) token: Object<V3Token>,
}

#[derive(Deserialize)]
pub(super) struct V3Token {
    pub(super) expires_at: String,
    pub(super) issued_at: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct ErrorDocument {
    pub(super) error: Option<Object<IgnoredAny>>,
}

#[derive(Deserialize)]
pub(super) struct OverLimit {
    #[serde(rename = "overLimit")]
    pub(super) over_limit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct Revocation {
    pub(super) signed: Option<String>,
}

#[derive(Serialize)]
pub(super) struct V2Login<'a> {
    pub(super) auth: V2Auth<'a>,
}

#[derive(Serialize)]
pub(super) struct V2Auth<'a> {
    #[serde(rename = "tenantName", skip_serializing_if = "Option::is_none")]
    pub(super) tenant_name: Option<&'a str>,
    #[serde(rename = "passwordCredentials")]
    pub(super) password_credentials: V2PasswordCredentials<'a>,
}

#[derive(Serialize)]
pub(super) struct V2PasswordCredentials<'a> {
    pub(super) username: &'a str,
    pub(super) password: &'a str,
}

#[derive(Serialize)]
pub(super) struct V3Login<'a> {
    pub(super) auth: V3Auth<'a>,
}

#[derive(Serialize)]
pub(super) struct V3Auth<'a> {
    pub(super) identity: V3Identity<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scope: Option<V3Scope<'a>>,
}

#[derive(Serialize)]
pub(super) struct V3Identity<'a> {
    pub(super) methods: [&'a str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) password: Option<V3Password<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) application_credential: Option<V3ApplicationCredential<'a>>,
}

#[derive(Serialize)]
pub(super) struct V3Password<'a> {
    pub(super) user: V3User<'a>,
}

#[derive(Serialize)]
pub(super) struct V3User<'a> {
    pub(super) name: &'a str,
    pub(super) domain: V3Domain<'a>,
    pub(super) password: &'a str,
}

#[derive(Serialize)]
pub(super) struct V3Domain<'a> {
    pub(super) name: &'a str,
}

#[derive(Serialize)]
pub(super) struct V3ApplicationCredential<'a> {
    pub(super) id: &'a str,
    pub(super) secret: &'a str,
}

#[derive(Serialize)]
pub(super) struct V3Scope<'a> {
    pub(super) project: V3Project<'a>,
}

#[derive(Serialize)]
pub(super) struct V3Project<'a> {
    pub(super) name: &'a str,
    pub(super) domain: V3Domain<'a>,
}
