//! Directives about the identity service, its tokens and the cache.

use super::{Arguments, Contexts, Directive, Setter};
use crate::line::Line;

struct Table<V>(std::marker::PhantomData<V>);

/// The directives for `http`, and for `http` and `server`.
pub const fn directives<V: Clone + 'static>() -> &'static [Directive<V>] {
    Table::<V>::DIRECTIVES
}

impl<V: Clone + 'static> Table<V> {
    const DIRECTIVES: &'static [Directive<V>] = &[
        Directive::server(
            c"keystone_auth_uri",
            "The URI of the identity service in \"WWW-Authenticate\".",
            |l, conf| l.set(&mut conf.auth_uri, Line::uri),
        ),
        Directive::server(
            c"keystone_identity_uri",
            "Where the module asks, in the order in which the URIs are tried.",
            |l, conf| l.set(&mut conf.identity_uris, Line::uris),
        )
        .takes(Arguments::OneOrMore),
        Directive::server(c"keystone_auth_version", "The version of Keystone's API.", |l, conf| {
            l.set(&mut conf.auth_version, |l| l.parse_or("\"auto\", \"v2.0\" or \"v3\""))
        })
        .by_default("auto"),
        Directive::server(
            c"keystone_admin_token",
            "A token that the module asks with.",
            |l, conf| l.set(&mut conf.credentials.token, Line::secret),
        ),
        Directive::server(c"keystone_username", "The service user's name.", |l, conf| {
            l.set(&mut conf.credentials.username, Line::word)
        })
        .alias(c"keystone_admin_user"),
        Directive::server(c"keystone_password", "The service user's password.", |l, conf| {
            l.set(&mut conf.credentials.password, Line::secret)
        })
        .alias(c"keystone_admin_password"),
        Directive::server(
            c"keystone_project_name",
            "The service user's project or tenant.",
            |l, conf| l.set(&mut conf.credentials.project_name, Line::word),
        )
        .alias(c"keystone_admin_tenant_name"),
        Directive::server(
            c"keystone_user_domain_name",
            "The domain of the service user.",
            |l, conf| l.set(&mut conf.credentials.user_domain_name, Line::word),
        )
        .by_default("Default"),
        Directive::server(
            c"keystone_project_domain_name",
            "The domain of the service user's project.",
            |l, conf| l.set(&mut conf.credentials.project_domain_name, Line::word),
        )
        .by_default("Default"),
        Directive::server(
            c"keystone_application_credential_id",
            "The id of the application credential that the module asks with.",
            |l, conf| l.set(&mut conf.credentials.application_credential_id, Line::word),
        ),
        Directive::server(
            c"keystone_application_credential_secret",
            "The secret of the application credential.",
            |l, conf| l.set(&mut conf.credentials.application_credential_secret, Line::secret),
        ),
        Directive::server(
            c"keystone_connect_timeout",
            "For the TCP connection and the TLS handshake, of one try.",
            |l, conf| l.set(&mut conf.connect_timeout, Line::positive_time),
        )
        .by_default("5s"),
        Directive::server(
            c"keystone_send_timeout",
            "Between two writes of a request to the identity service.",
            |l, conf| l.set(&mut conf.send_timeout, Line::positive_time),
        )
        .by_default("5s"),
        Directive::server(
            c"keystone_read_timeout",
            "Between two reads of an answer of the identity service.",
            |l, conf| l.set(&mut conf.read_timeout, Line::positive_time),
        )
        .by_default("10s"),
        Directive::server(
            c"keystone_http_request_max_retries",
            "How many tries follow the first one.",
            |l, conf| l.set(&mut conf.max_retries, |l| l.number(0)),
        )
        .by_default("3"),
        Directive::server(
            c"keystone_keepalive",
            "How many idle connections a worker keeps.",
            |l, conf| l.set(&mut conf.keepalive, |l| l.number(0)),
        )
        .by_default("16"),
        Directive::server(
            c"keystone_max_pending",
            "The number of validations that a worker has pending.",
            |l, conf| l.set(&mut conf.max_pending, |l| l.number(1)),
        )
        .by_default("512"),
        Directive::server(
            c"keystone_max_pending_per_address",
            "How many of them one client address may have; 0 for all.",
            |l, conf| l.set(&mut conf.max_pending_per_address, |l| l.number(0)),
        ),
        Directive::server(
            c"keystone_jws_keys",
            "Keystone's public keys, by which JWS tokens are refused without a question.",
            |l, conf| l.set(&mut conf.jws_keys, Line::jws_keys),
        )
        .takes(Arguments::OneOrMore),
        Directive::server(
            c"keystone_revocation_events",
            "How often revocation events are fetched.",
            |l, conf| l.set(&mut conf.revocation_events, Line::time_or_off),
        )
        .by_default("off"),
        Directive::server(
            c"keystone_proxy",
            "The HTTP proxy through which the identity service is asked.",
            |l, conf| l.set(&mut conf.proxy, Line::proxy_or_off),
        )
        .by_default("off"),
        Directive::server(
            c"keystone_ssl_partial_chain",
            "Whether trust ends at any certificate of the CA bundle.",
            |l, conf| l.set(&mut conf.ssl_partial_chain, Line::flag),
        )
        .takes(Arguments::Flag)
        .by_default("off"),
        Directive::server(
            c"keystone_ssl_trusted_certificate",
            "The CA bundle for https to the identity service.",
            |l, conf| l.set(&mut conf.ssl_trusted_certificate, Line::readable_file),
        ),
        Directive::server(
            c"keystone_ssl_verify",
            "Whether the identity service's certificate is verified.",
            |l, conf| l.set(&mut conf.ssl_verify, Line::flag),
        )
        .takes(Arguments::Flag)
        .by_default("on"),
        Directive::server(
            c"keystone_ssl_name",
            "The name to verify and to send as SNI.",
            |l, conf| l.set(&mut conf.ssl_name, Line::host),
        ),
        Directive::server(
            c"keystone_ssl_certificate",
            "The client certificate for the identity service.",
            |l, conf| l.set(&mut conf.ssl_certificate, Line::readable_file),
        ),
        Directive::server(
            c"keystone_ssl_certificate_key",
            "The key of the client certificate.",
            |l, conf| l.set(&mut conf.ssl_certificate_key, Line::readable_file),
        ),
        Directive::server(
            c"keystone_signing_dir",
            "The directory of the certificates and the revocation list.",
            |l, conf| l.set(&mut conf.signing_dir, Line::path),
        ),
        Directive::server(
            c"keystone_hash_algorithms",
            "The algorithms that revocation ids may be in.",
            |l, conf| l.set(&mut conf.hash_algorithms, Line::hash_algorithms),
        )
        .takes(Arguments::OneOrMore)
        .by_default("md5"),
        Directive::server(
            c"keystone_revocation",
            "Whether the revocation list is checked.",
            |l, conf| l.set(&mut conf.revocation, Line::flag),
        )
        .takes(Arguments::Flag)
        .by_default("on"),
        Directive::server(
            c"keystone_revocation_cache_time",
            "How old the revocation list may be before it is fetched again.",
            |l, conf| l.set(&mut conf.revocation_cache_time, Line::time),
        )
        .by_default("10s"),
        Directive::server(
            c"keystone_revocation_stale",
            "How much older it may get while the identity service does not answer.",
            |l, conf| l.set(&mut conf.revocation_stale, Line::time),
        )
        .by_default("0"),
        Directive::new(
            c"keystone_cache_zone",
            "The zone of shared memory.",
            Contexts::Http,
            Setter::Main(|l, conf| l.set(&mut conf.zone, Line::zone)),
        )
        .by_default("zone=keystone:10m"),
        Directive::new(
            c"keystone_worker_cache",
            "The tokens and identities that each worker keeps for itself.",
            Contexts::Http,
            Setter::Main(|l, conf| l.set(&mut conf.worker_cache, Line::size)),
        )
        .by_default("64m"),
        Directive::server(
            c"keystone_token_cache_time",
            "How long a valid token is served from the cache.",
            |l, conf| l.set(&mut conf.token_cache_time, Line::time_or_off),
        )
        .by_default("300s"),
        Directive::server(
            c"keystone_invalid_cache_time",
            "How long a refusal is remembered.",
            |l, conf| l.set(&mut conf.invalid_cache_time, Line::time_or_off),
        )
        .by_default("30s"),
        Directive::server(
            c"keystone_memcached_servers",
            "The memcached servers that gateways share.",
            |l, conf| l.set(&mut conf.memcached.servers, Line::memcached_servers),
        )
        .takes(Arguments::OneOrMore),
        Directive::server(
            c"keystone_memcached_security_strategy",
            "How entries in memcached are protected.",
            |l, conf| {
                l.set(&mut conf.memcached.strategy, |l| {
                    l.parse_or("\"none\", \"mac\" or \"encrypt\"")
                })
            },
        )
        .by_default("none"),
        Directive::server(
            c"keystone_memcached_secret_key",
            "The secret that protects entries in memcached.",
            |l, conf| l.set(&mut conf.memcached.secret, Line::secret),
        ),
    ];
}
