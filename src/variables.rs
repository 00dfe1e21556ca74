//! The variables.
//!
//! nginx finds a variable in two ways. A name in the configuration is resolved to an index when the
//! configuration has been read. Scripts (Lua, Perl, njs) and SSI look a name up while a request is
//! served, in a hash that nginx's own variables nearly fill: two dozen more and nginx warns of the
//! size of `variables_hash` at each start. So the module's variables stay out of the hash, and a
//! prefix stands for them all. The prefix is added only after nginx has resolved the names of the
//! configuration: before, it would let a misspelt name pass.

use keystone_token::record::Field;
use keystone_token::swift::AccountPath;
use nginx_sys::{
    ngx_array_push, ngx_conf_t, ngx_http_add_variable, ngx_http_core_main_conf_t,
    ngx_http_request_t, ngx_http_variable_t, ngx_int_t, ngx_str_t, ngx_variable_value_t, NGX_ERROR,
    NGX_HTTP_VAR_NOCACHEABLE, NGX_HTTP_VAR_NOHASH, NGX_HTTP_VAR_PREFIX, NGX_OK,
};

use crate::conf::directive::pool_string;
use crate::context::{Context, RequestToken};
use crate::panic::catch_panic;
use crate::request::Request;
use crate::string::{bytes, static_string};
use crate::swift;

/// The source of a variable's value.
#[derive(Clone, Copy)]
enum Variable {
    AuthResult,
    Bearer,
    CacheStatus,
    Identity(Field),
    IdentityStatus,
    RequestId,
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

/// The names of the variables, and their sources.
const VARIABLES: &[(&str, Variable)] = &[
    ("keystone_audit_id", Variable::Identity(Field::AuditId)),
    ("keystone_auth_result", Variable::AuthResult),
    ("keystone_bearer", Variable::Bearer),
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
    ("keystone_request_id", Variable::RequestId),
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
        let flags = (NOCACHEABLE | NGX_HTTP_VAR_NOHASH) as usize;
        // SAFETY: `cf` is valid, and the name lies in its pool.
        let variable = unsafe { ngx_http_add_variable(cf, &mut name, flags).as_mut()? };
        variable.get_handler = Some(evaluate);
        variable.data = index;
    }
    Some(())
}

/// Adds the prefix, by which the variables are found while requests are served; `None` where nginx
/// has no memory. The configuration has been read.
pub fn add_prefix(core: &mut ngx_http_core_main_conf_t) -> Option<()> {
    // SAFETY: the array holds variables, and is in use by this thread alone.
    let slot: *mut ngx_http_variable_t =
        unsafe { ngx_array_push(&mut core.prefix_variables) }.cast();
    if slot.is_null() {
        return None;
    }
    // SAFETY: the array has made room for one variable; all-zero is a valid one.
    unsafe {
        slot.write_bytes(0, 1);
        let variable = &mut *slot;
        variable.name = static_string(PREFIX);
        variable.get_handler = Some(evaluate_named);
        variable.flags = (NOCACHEABLE | NGX_HTTP_VAR_PREFIX) as usize;
    }
    Some(())
}

/// By its index in the list.
unsafe extern "C" fn evaluate(
    r: *mut ngx_http_request_t,
    v: *mut ngx_variable_value_t,
    data: usize,
) -> ngx_int_t {
    // SAFETY: nginx's contract for a variable's handler is this function's.
    unsafe { fill(r, v, VARIABLES.get(data)) }
}

/// By its name, in lower case.
unsafe extern "C" fn evaluate_named(
    r: *mut ngx_http_request_t,
    v: *mut ngx_variable_value_t,
    data: usize,
) -> ngx_int_t {
    // SAFETY: for a prefix, nginx passes the address of the whole name.
    let name = unsafe { bytes(&*(data as *const ngx_str_t)) };
    let variable = VARIABLES.iter().find(|(known, _)| known.as_bytes() == name);
    // SAFETY: nginx's contract for a variable's handler is this function's.
    unsafe { fill(r, v, variable) }
}

/// # Safety
/// The request and the value are those that nginx hands to a variable's handler.
unsafe fn fill(
    r: *mut ngx_http_request_t,
    v: *mut ngx_variable_value_t,
    variable: Option<&(&str, Variable)>,
) -> ngx_int_t {
    catch_panic(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx passes a request that is alive.
        let request = unsafe { Request::new(r) };
        let text = request
            .as_ref()
            .zip(variable)
            .and_then(|(request, (_, variable))| variable.text(request));
        // SAFETY: nginx passes a value to be filled.
        let value = unsafe { &mut *v };
        value.set_no_cacheable(1);
        let Some(text) = text else {
            value.set_valid(0);
            value.set_not_found(1);
            return NGX_OK as ngx_int_t;
        };
        value.set_valid(1);
        value.set_not_found(0);
        // A token's identity is never as long as the 28 bits that nginx has for a length.
        value.set_len(text.len() as u32);
        value.data = text.as_ptr().cast_mut();
        NGX_OK as ngx_int_t
    })
}

impl Variable {
    /// The text, which lies in the request, its context or the program.
    fn text(self, request: &Request) -> Option<&[u8]> {
        let context = || Context::find(request);
        let text = match self {
            Self::AuthResult => context()?.result.get()?.as_str(),
            Self::Bearer => return request.bearer(),
            Self::CacheStatus => context()?.user()?.cache_status.get()?.as_str(),
            Self::Identity(field) => field_text(context()?.user()?, field)?,
            Self::IdentityStatus => {
                let user = context()?.user()?;
                user.state()?;
                if user.identity().is_some() {
                    "Confirmed"
                } else {
                    "Invalid"
                }
            }
            Self::RequestId => context()?.request_id.get()?.as_str(),
            Self::Service(field) => field_text(context()?.service()?, field)?,
            Self::Swift(part) => return part.of(&swift::path(request)?),
            Self::TokenFormat => context()?.user()?.format.get()?.as_str(),
            Self::TokenId => {
                let user = context()?.user()?;
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
    request_token.identity()?.record().get(field).filter(|text| !text.is_empty())
}

/// The beginning of every name.
const PREFIX: &str = "keystone_";

/// A variable that is read before the access phase has its value later.
const NOCACHEABLE: u32 = NGX_HTTP_VAR_NOCACHEABLE;
