//! The result of a request, in one word.

/// The result of a request, with a token or without one.
///
/// It is `$keystone_auth_result` of the module, the label `result` of its metrics, and the number
/// by which a refusal lies in its cache. Whatever refuses a request has its result here, also what
/// has to do with the gateway and not with the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthResult {
    /// The token is valid, and the request may pass.
    Ok,
    /// The access rules of the token's application credential do not permit the request.
    AccessRules,
    /// nginx and the service behind it could find different accounts in the path.
    BadPath,
    /// The user token is valid, the service token is not.
    BadServiceToken,
    /// The signature does not match the content.
    BadSignature,
    /// The token is bound to something that the request does not show.
    BindFailed,
    /// The signing certificate has expired. The module asks Keystone then.
    CertificateExpired,
    /// The signing certificate is not valid yet. The module asks Keystone then.
    CertificateNotYetValid,
    /// The token has expired.
    Expired,
    /// The token is valid and lacks what the location requires.
    Forbidden,
    /// Keystone is needed and cannot be asked.
    IdentityUnavailable,
    /// The token does not have the form in which Keystone issues tokens.
    Malformed,
    /// A v2 token that is not scoped to a tenant.
    NoTenant,
    /// The request has no token.
    NoToken,
    /// The token is on the revocation list.
    Revoked,
    /// A service token without any of the roles of a service. The request's own result is
    /// [`BadServiceToken`](Self::BadServiceToken) then.
    ServiceRole,
    /// Another module has led the request past the decision.
    Skipped,
    /// The token is signed with a certificate that is not known.
    UnknownSigner,
    /// Keystone does not know the token.
    UnknownToken,
}

impl AuthResult {
    /// All results, each at the index that is its [`code`](Self::code).
    pub const ALL: [Self; 19] = [
        Self::Ok,
        Self::AccessRules,
        Self::BadPath,
        Self::BadServiceToken,
        Self::BadSignature,
        Self::BindFailed,
        Self::CertificateExpired,
        Self::CertificateNotYetValid,
        Self::Expired,
        Self::Forbidden,
        Self::IdentityUnavailable,
        Self::Malformed,
        Self::NoTenant,
        Self::NoToken,
        Self::Revoked,
        Self::ServiceRole,
        Self::Skipped,
        Self::UnknownSigner,
        Self::UnknownToken,
    ];

    /// The word for logs, metrics and `$keystone_auth_result`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::AccessRules => "access_rules",
            Self::BadPath => "bad_path",
            Self::BadServiceToken => "bad_service_token",
            Self::BadSignature => "bad_signature",
            Self::BindFailed => "bind_failed",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateNotYetValid => "certificate_not_yet_valid",
            Self::Expired => "expired",
            Self::Forbidden => "forbidden",
            Self::IdentityUnavailable => "identity_unavailable",
            Self::Malformed => "malformed",
            Self::NoTenant => "no_tenant",
            Self::NoToken => "no_token",
            Self::Revoked => "revoked",
            Self::ServiceRole => "service_role",
            Self::Skipped => "skipped",
            Self::UnknownSigner => "unknown_signer",
            Self::UnknownToken => "unknown_token",
        }
    }

    /// The number for shared memory. It may be another one in another version of this crate.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The result of this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Whether a cache may keep it for the same token: a refusal that took a signature check or a
    /// request to Keystone to find, and that is about the token alone.
    pub fn is_remembered(self) -> bool {
        match self {
            Self::BadSignature
            | Self::Expired
            | Self::Malformed
            | Self::NoTenant
            | Self::Revoked
            | Self::UnknownSigner
            | Self::UnknownToken => true,
            Self::Ok
            | Self::AccessRules
            | Self::BadPath
            | Self::BadServiceToken
            | Self::BindFailed
            | Self::CertificateExpired
            | Self::CertificateNotYetValid
            | Self::Forbidden
            | Self::IdentityUnavailable
            | Self::NoToken
            | Self::ServiceRole
            | Self::Skipped => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_the_index_in_the_list_of_all() {
        for (index, result) in AuthResult::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(result.code()), index, "{result:?}");
            assert_eq!(AuthResult::from_code(result.code()), Some(result));
        }
        // The last variant of the enum is the last of the list: none is missing.
        assert_eq!(AuthResult::UnknownToken as usize + 1, AuthResult::ALL.len());
        for code in [AuthResult::ALL.len() as u8, u8::MAX] {
            assert_eq!(AuthResult::from_code(code), None);
        }
    }

    #[test]
    fn every_word_is_the_name_of_its_variant() {
        for result in AuthResult::ALL {
            let name: String = result.as_str().split('_').map(capitalised).collect();
            assert_eq!(name, format!("{result:?}"));
        }
    }

    fn capitalised(word: &str) -> String {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    }
}
