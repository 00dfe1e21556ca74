//! The variables.

use keystone_token::record::Field;
use keystone_token::swift::AccountPath;
use nginx_sys::{
    ngx_conf_t, ngx_http_add_variable, ngx_http_request_t, ngx_int_t, ngx_variable_value_t,
    NGX_HTTP_VAR_NOCACHEABLE, NGX_OK,
};

use crate::conf::directive::pool_string;
use crate::context::{Context, RequestToken};
use crate::net::catch_panic;
use crate::request::Request;
use crate::swift;

/// What a variable shows.
#[derive(Clone, Copy)]
enum Variable {
    AuthResult,
    CacheStatus,
    Identity(Field),
    IdentityStatus,
    Service(Field),
    Swift(Part),
    TokenFormat,
    TokenId,
}

/// A part of the path to an object of Swift's.
#[derive(Clone, Copy)]
enum Part {
    Account,
    Container,
    Object,
}

/// All variables.
const VARIABLES: &[(&str, Variable)] = &[
    ("keystone_audit_id", Variable::Identity(Field::AuditId)),
    ("keystone_auth_result", Variable::AuthResult),
    ("keystone_cache_status", Variable::CacheStatus),
    ("keystone_domain_id", Variable::Identity(Field::DomainId)),
    ("keystone_domain_name", Variable::Identity(Field::DomainName)),
    ("keystone_expires_at", Variable::Identity(Field::ExpiresAt)),
    ("keystone_identity_status", Variable::IdentityStatus),
    ("keystone_is_admin_project", Variable::Identity(Field::IsAdminProject)),
    ("keystone_project_domain_id", Variable::Identity(Field::ProjectDomainId)),
    ("keystone_project_domain_name", Variable::Identity(Field::ProjectDomainName)),
    ("keystone_project_id", Variable::Identity(Field::ProjectId)),
    ("keystone_project_name", Variable::Identity(Field::ProjectName)),
    ("keystone_roles", Variable::Identity(Field::Roles)),
    ("keystone_service_project_id", Variable::Service(Field::ProjectId)),
    ("keystone_service_roles", Variable::Service(Field::Roles)),
    ("keystone_service_user_id", Variable::Service(Field::UserId)),
    ("keystone_service_user_name", Variable::Service(Field::UserName)),
    ("keystone_swift_account", Variable::Swift(Part::Account)),
    ("keystone_swift_container", Variable::Swift(Part::Container)),
    ("keystone_swift_object", Variable::Swift(Part::Object)),
    ("keystone_system_scope", Variable::Identity(Field::SystemScope)),
    ("keystone_token_format", Variable::TokenFormat),
    ("keystone_token_id", Variable::TokenId),
    ("keystone_user_domain_id", Variable::Identity(Field::UserDomainId)),
    ("keystone_user_domain_name", Variable::Identity(Field::UserDomainName)),
    ("keystone_user_id", Variable::Identity(Field::UserId)),
    ("keystone_user_name", Variable::Identity(Field::UserName)),
];

/// Adds the variables to the configuration; `None` where nginx refuses one.
pub fn add(cf: &mut ngx_conf_t) -> Option<()> {
    for (index, (name, _)) in VARIABLES.iter().enumerate() {
        let mut name = pool_string(cf, name)?;
        // Not cacheable: a variable read before the access phase has its value later.
        let flags = NGX_HTTP_VAR_NOCACHEABLE as usize;
        // SAFETY: `cf` is valid, and the name lies in its pool.
        let variable = unsafe { ngx_http_add_variable(cf, &mut name, flags).as_mut()? };
        variable.get_handler = Some(evaluate);
        variable.data = index;
    }
    Some(())
}

unsafe extern "C" fn evaluate(
    r: *mut ngx_http_request_t,
    v: *mut ngx_variable_value_t,
    data: usize,
) -> ngx_int_t {
    catch_panic(|| {
        // SAFETY: nginx passes a request that is alive.
        let request = unsafe { Request::new(r) };
        let text = request
            .as_ref()
            .zip(VARIABLES.get(data))
            .and_then(|(request, (_, variable))| variable.text(request));
        // SAFETY: nginx passes a value to be filled.
        let value = unsafe { &mut *v };
        value.set_no_cacheable(1);
        let Some(text) = text else {
            value.set_valid(0);
            value.set_not_found(1);
            return;
        };
        value.set_valid(1);
        value.set_not_found(0);
        // A token's identity is never as long as the 28 bits that nginx has for a length.
        value.set_len(text.len() as u32);
        value.data = text.as_ptr().cast_mut();
    });
    NGX_OK as ngx_int_t
}

impl Variable {
    /// The text, which lies in the request, its context or the program.
    fn text(self, request: &Request) -> Option<&[u8]> {
        let context = || Context::find(request);
        let text = match self {
            Self::AuthResult => context()?.result.get()?.as_str(),
            Self::CacheStatus => context()?.user.cache_status.get()?.as_str(),
            Self::Identity(field) => field_text(&context()?.user, field)?,
            Self::IdentityStatus => {
                let user = &context()?.user;
                user.state()?;
                if user.identity().is_some() {
                    "Confirmed"
                } else {
                    "Invalid"
                }
            }
            Self::Service(field) => field_text(&context()?.service, field)?,
            Self::Swift(part) => return part.of(&swift::path(request)?),
            Self::TokenFormat => context()?.user.format.get()?.as_str(),
            Self::TokenId => {
                let user = &context()?.user;
                user.bytes()?;
                user.token_name(request.server()?)
            }
        };
        Some(text.as_bytes())
    }
}

impl Part {
    fn of<'p>(self, path: &AccountPath<'p>) -> Option<&'p [u8]> {
        match self {
            Self::Account => path.account,
            Self::Container => path.container,
            Self::Object => path.object,
        }
    }
}

fn field_text(request_token: &RequestToken, field: Field) -> Option<&str> {
    request_token.identity()?.record()?.get(field).filter(|text| !text.is_empty())
}
