//! The table of directives.

use std::ffi::{c_char, c_void};

use keystone_gateway::status::Form;
use keystone_token::policy::BindMode;
use keystone_token::swift::AclKind;
use nginx_sys::{
    ngx_command_t, ngx_conf_t, ngx_uint_t, NGX_CONF_1MORE, NGX_CONF_FLAG, NGX_CONF_NOARGS,
    NGX_CONF_TAKE1, NGX_HTTP_LMT_CONF, NGX_HTTP_LOC_CONF, NGX_HTTP_LOC_CONF_OFFSET,
    NGX_HTTP_MAIN_CONF, NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_SRV_CONF, NGX_HTTP_SRV_CONF_OFFSET,
};
use ngx::ngx_string;

use super::directive::{once, read, Directive, Refused};
use super::jws_keys;
use super::location::{Auth, LocationConf};
use super::server::ServerConf;
use super::swift::{AclValue, Roles};
use super::MainConf;

const MAIN: u32 = NGX_HTTP_MAIN_CONF;
const SERVER: u32 = NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF;
const LOCATION: u32 = SERVER | NGX_HTTP_LOC_CONF;
const LIMIT_EXCEPT: u32 = LOCATION | NGX_HTTP_LMT_CONF;

/// An entry of the table: name, contexts and arguments, and what is done with the directive.
macro_rules! command {
    ($name:literal, $kind:expr, $conf:ty, $offset:expr, $set:expr) => {{
        unsafe extern "C" fn set(
            cf: *mut ngx_conf_t,
            _command: *mut ngx_command_t,
            conf: *mut c_void,
        ) -> *mut c_char {
            // SAFETY: nginx passes its own `cf`, and as `conf` what the offset of this entry
            // selects, which the module's create function has made of this type.
            unsafe { read::<$conf>(cf, conf, $set) }
        }
        ngx_command_t {
            name: ngx_string!($name),
            type_: $kind as ngx_uint_t,
            set: Some(set),
            conf: $offset,
            offset: 0,
            post: std::ptr::null_mut(),
        }
    }};
}

macro_rules! main {
    ($name:literal, $arguments:expr, $set:expr) => {
        command!($name, MAIN | $arguments, MainConf, NGX_HTTP_MAIN_CONF_OFFSET, $set)
    };
}

macro_rules! server {
    ($name:literal, $arguments:expr, $set:expr) => {
        command!($name, SERVER | $arguments, ServerConf, NGX_HTTP_SRV_CONF_OFFSET, $set)
    };
}

macro_rules! location {
    ($name:literal, $contexts:expr, $arguments:expr, $set:expr) => {
        command!($name, $contexts | $arguments, LocationConf, NGX_HTTP_LOC_CONF_OFFSET, $set)
    };
}

/// All directives, and nginx's end of the list.
pub static mut COMMANDS: [ngx_command_t; 63] = [
    location!("keystone_auth", LIMIT_EXCEPT, NGX_CONF_TAKE1, set_auth),
    server!("keystone_auth_uri", NGX_CONF_TAKE1, |d, conf| {
        let uri = uri(d, d.argument())?;
        once(&mut conf.auth_uri, uri)
    }),
    server!("keystone_identity_uri", NGX_CONF_1MORE, |d, conf| {
        let uris = d.arguments().iter().map(|text| uri(d, text)).collect::<Result<_, _>>()?;
        once(&mut conf.identity_uris, uris)
    }),
    server!("keystone_auth_version", NGX_CONF_TAKE1, |d, conf| {
        let version = d.argument().parse().map_err(|error| d.invalid(d.argument(), error))?;
        once(&mut conf.auth_version, version)
    }),
    server!("keystone_admin_token", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.credentials.token, d.secret()?)
    }),
    server!("keystone_username", NGX_CONF_TAKE1, set_username),
    server!("keystone_admin_user", NGX_CONF_TAKE1, set_username),
    server!("keystone_password", NGX_CONF_TAKE1, set_password),
    server!("keystone_admin_password", NGX_CONF_TAKE1, set_password),
    server!("keystone_project_name", NGX_CONF_TAKE1, set_project_name),
    server!("keystone_admin_tenant_name", NGX_CONF_TAKE1, set_project_name),
    server!("keystone_user_domain_name", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.credentials.user_domain_name, d.word()?)
    }),
    server!("keystone_project_domain_name", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.credentials.project_domain_name, d.word()?)
    }),
    server!("keystone_application_credential_id", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.credentials.application_credential_id, d.word()?)
    }),
    server!("keystone_application_credential_secret", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.credentials.application_credential_secret, d.secret()?)
    }),
    server!("keystone_connect_timeout", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.connect_timeout, d.positive_time()?)
    }),
    server!("keystone_send_timeout", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.send_timeout, d.positive_time()?)
    }),
    server!("keystone_read_timeout", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.read_timeout, d.positive_time()?)
    }),
    server!("keystone_http_request_max_retries", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.max_retries, d.number(0)?)
    }),
    server!("keystone_keepalive", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.keepalive, d.number(0)?)
    }),
    server!("keystone_max_pending", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.max_pending, d.number(1)?)
    }),
    server!("keystone_max_pending_per_address", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.max_pending_per_address, d.number(0)?)
    }),
    server!("keystone_jws_keys", NGX_CONF_1MORE, |d, conf| {
        let paths = d.paths()?;
        once(&mut conf.jws_keys, jws_keys::read(&paths)?)
    }),
    server!("keystone_revocation_events", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.revocation_events, d.time_or_off()?)
    }),
    server!("keystone_ssl_trusted_certificate", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.ssl_trusted_certificate, d.readable_file()?)
    }),
    server!("keystone_ssl_verify", NGX_CONF_FLAG, |d, conf| {
        once(&mut conf.ssl_verify, d.flag()?)
    }),
    server!("keystone_ssl_name", NGX_CONF_TAKE1, |d, conf| once(&mut conf.ssl_name, d.word()?)),
    server!("keystone_ssl_certificate", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.ssl_certificate, d.readable_file()?)
    }),
    server!("keystone_ssl_certificate_key", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.ssl_certificate_key, d.readable_file()?)
    }),
    server!("keystone_signing_dir", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.signing_dir, d.path()?)
    }),
    server!("keystone_hash_algorithms", NGX_CONF_1MORE, set_hash_algorithms),
    server!("keystone_revocation", NGX_CONF_FLAG, |d, conf| {
        once(&mut conf.revocation, d.flag()?)
    }),
    server!("keystone_revocation_cache_time", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.revocation_cache_time, d.time()?)
    }),
    server!("keystone_revocation_stale", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.revocation_stale, d.time()?)
    }),
    main!("keystone_cache_zone", NGX_CONF_TAKE1, |d, conf| conf.zone.configure(d)),
    server!("keystone_token_cache_time", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.token_cache_time, d.time_or_off()?)
    }),
    server!("keystone_invalid_cache_time", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.invalid_cache_time, d.time_or_off()?)
    }),
    server!("keystone_memcached_servers", NGX_CONF_1MORE, set_memcached_servers),
    server!("keystone_memcached_security_strategy", NGX_CONF_TAKE1, |d, conf| {
        let strategy = d.argument().parse().map_err(|error| d.invalid(d.argument(), error))?;
        once(&mut conf.memcached.strategy, strategy)
    }),
    server!("keystone_memcached_secret_key", NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.memcached.secret, d.secret()?)
    }),
    location!("keystone_require_role", LIMIT_EXCEPT, NGX_CONF_1MORE, |d, conf| {
        let roles = d.words()?;
        conf.require_roles.get_or_insert_default().push(roles);
        Ok(())
    }),
    location!("keystone_require", LIMIT_EXCEPT, NGX_CONF_1MORE, set_require),
    location!("keystone_enforce_token_bind", LIMIT_EXCEPT, NGX_CONF_TAKE1, |d, conf| {
        let mode: BindMode = d.word()?.parse().map_err(|error| d.invalid(d.argument(), error))?;
        once(&mut conf.token_bind, mode)
    }),
    location!("keystone_service_token_roles", LIMIT_EXCEPT, NGX_CONF_1MORE, |d, conf| {
        once(&mut conf.service_token_roles, d.words()?)
    }),
    location!("keystone_service_token_roles_required", LIMIT_EXCEPT, NGX_CONF_FLAG, |d, conf| {
        once(&mut conf.service_token_roles_required, d.flag()?)
    }),
    location!("keystone_service_type", LIMIT_EXCEPT, NGX_CONF_1MORE, |d, conf| {
        once(&mut conf.service_types, d.words()?)
    }),
    location!("keystone_swift_auth", LIMIT_EXCEPT, NGX_CONF_FLAG, |d, conf| {
        once(&mut conf.swift.auth, (d.flag()?, d.place()))
    }),
    location!("keystone_swift_reseller_prefix", LIMIT_EXCEPT, NGX_CONF_1MORE, |d, conf| {
        once(&mut conf.swift.reseller_prefixes, d.words_or_empty()?)
    }),
    location!("keystone_swift_operator_roles", LIMIT_EXCEPT, NGX_CONF_1MORE, |d, conf| {
        once(&mut conf.swift.operator_roles, Roles::read(d)?)
    }),
    location!("keystone_swift_service_roles", LIMIT_EXCEPT, NGX_CONF_1MORE, |d, conf| {
        once(&mut conf.swift.service_roles, Roles::read(d)?)
    }),
    location!("keystone_swift_project_reader_roles", LIMIT_EXCEPT, NGX_CONF_1MORE, |d, conf| {
        once(&mut conf.swift.project_reader_roles, Roles::read(d)?)
    }),
    location!("keystone_swift_system_reader_roles", LIMIT_EXCEPT, NGX_CONF_1MORE, |d, conf| {
        once(&mut conf.swift.system_reader_roles, Roles::read(d)?)
    }),
    location!("keystone_swift_reseller_admin_role", LIMIT_EXCEPT, NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.swift.reseller_admin_role, d.word()?)
    }),
    location!("keystone_swift_read_acl", LIMIT_EXCEPT, NGX_CONF_TAKE1, |d, conf| {
        let acl = AclValue::read(d, AclKind::Read)?;
        once(&mut conf.swift.read_acl, acl)
    }),
    location!("keystone_swift_write_acl", LIMIT_EXCEPT, NGX_CONF_TAKE1, |d, conf| {
        let acl = AclValue::read(d, AclKind::Write)?;
        once(&mut conf.swift.write_acl, acl)
    }),
    location!("keystone_swift_acl_file", LIMIT_EXCEPT, NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.swift.acl_file, d.path_with_variables()?)
    }),
    location!("keystone_swift_allow_names_in_acls", LIMIT_EXCEPT, NGX_CONF_FLAG, |d, conf| {
        once(&mut conf.swift.allow_names_in_acls, d.flag()?)
    }),
    location!("keystone_swift_default_domain_id", LIMIT_EXCEPT, NGX_CONF_TAKE1, |d, conf| {
        once(&mut conf.swift.default_domain_id, d.word()?)
    }),
    location!("keystone_headers", LOCATION, NGX_CONF_FLAG, |d, conf| {
        once(&mut conf.headers, d.flag()?)
    }),
    location!("keystone_include_service_catalog", LOCATION, NGX_CONF_FLAG, |d, conf| {
        once(&mut conf.catalog, d.flag()?)
    }),
    location!("keystone_forward_token", LOCATION, NGX_CONF_FLAG, |d, conf| {
        once(&mut conf.forward_token, d.flag()?)
    }),
    location!("keystone_status", NGX_HTTP_LOC_CONF, NGX_CONF_NOARGS | NGX_CONF_TAKE1, set_status),
    ngx_command_t::empty(),
];

fn set_auth(d: &mut Directive<'_>, conf: &mut LocationConf) -> Result<(), Refused> {
    let auth = match d.argument() {
        "delay" => Auth::Delay,
        "off" => Auth::Off,
        "on" => Auth::On,
        other => return Err(d.invalid(other, "it must be \"on\", \"off\" or \"delay\"")),
    };
    once(&mut conf.auth, (auth, d.place()))
}

fn set_status(d: &mut Directive<'_>, conf: &mut LocationConf) -> Result<(), Refused> {
    let form = match d.argument() {
        "" if d.arguments().is_empty() => None,
        "json" => Some(Form::Json),
        "prometheus" => Some(Form::Prometheus),
        other => return Err(d.invalid(other, "it must be \"json\" or \"prometheus\"")),
    };
    once(&mut conf.status, form)?;
    d.answer_with(crate::show_status)
}

fn set_username(d: &mut Directive<'_>, conf: &mut ServerConf) -> Result<(), Refused> {
    once(&mut conf.credentials.username, d.word()?)
}

fn set_password(d: &mut Directive<'_>, conf: &mut ServerConf) -> Result<(), Refused> {
    once(&mut conf.credentials.password, d.secret()?)
}

fn set_project_name(d: &mut Directive<'_>, conf: &mut ServerConf) -> Result<(), Refused> {
    once(&mut conf.credentials.project_name, d.word()?)
}

fn set_hash_algorithms(d: &mut Directive<'_>, conf: &mut ServerConf) -> Result<(), Refused> {
    let mut algorithms = Vec::new();
    for name in d.arguments() {
        let algorithm = name.parse().map_err(|error| d.invalid(name, error))?;
        if algorithms.contains(&algorithm) {
            return Err(d.invalid(name, "it is named twice"));
        }
        algorithms.push(algorithm);
    }
    once(&mut conf.hash_algorithms, algorithms)
}

fn set_memcached_servers(d: &mut Directive<'_>, conf: &mut ServerConf) -> Result<(), Refused> {
    let mut servers = Vec::new();
    for text in d.arguments() {
        let server = text.parse().map_err(|error| d.invalid(text, error))?;
        if servers.contains(&server) {
            return Err(d.invalid(text, "it is named twice"));
        }
        servers.push(server);
    }
    once(&mut conf.memcached.servers, servers)
}

fn set_require(d: &mut Directive<'_>, conf: &mut LocationConf) -> Result<(), Refused> {
    for text in d.arguments().to_vec() {
        let value = d.complex_value(text)?;
        conf.require.get_or_insert_default().push(value);
    }
    Ok(())
}

/// An absolute http or https URI that can also stand in a header.
fn uri(d: &Directive<'_>, text: &str) -> Result<String, Refused> {
    let invalid = |reason: &str| Err(d.invalid(text, reason));
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '"' || c == '\\') {
        return invalid("it has a character that a URI cannot have");
    }
    let Ok(uri) = text.parse::<http::Uri>() else {
        return invalid("it is not a URI");
    };
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => {}
        _ => return invalid("it must start with http:// or https:// and a host"),
    }
    let port = uri.authority().and_then(|authority| authority.as_str().rsplit_once(':'));
    let is_ipv6 = |port: &str| port.ends_with(']');
    if port.is_some_and(|(_, port)| !is_ipv6(port) && !matches!(port.parse(), Ok(1..=u16::MAX))) {
        return invalid("its port must be a number from 1 to 65535");
    }
    if uri.query().is_some() || uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        return invalid("it must have neither a query nor a user");
    }
    Ok(text.to_owned())
}
