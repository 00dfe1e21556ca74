//! Directives about requests: which are allowed, and what the upstream gets.

use keystone_gateway::status::Form;

use super::{Arguments, Contexts, Directive};
use crate::line::Line;
use crate::location::Auth;

struct Table<V>(std::marker::PhantomData<V>);

/// The directives for locations.
pub const fn directives<V: Clone + 'static>() -> &'static [Directive<V>] {
    Table::<V>::DIRECTIVES
}

impl<V: Clone + 'static> Table<V> {
    const DIRECTIVES: &'static [Directive<V>] = &[
        Directive::location(c"keystone_auth", "Whether a valid token is demanded.", |l, conf| {
            let position = l.position();
            let read = |l: &mut Line<'_, V>| l.one_of(AUTH, "\"on\", \"off\" or \"delay\"");
            l.set(&mut conf.auth, |l| Ok((read(l)?, position)))
        })
        .by_default("off"),
        Directive::location(
            c"keystone_token",
            "Where the user token is: the first value that is not empty.",
            |l, conf| l.set(&mut conf.token, Line::token_sources),
        )
        .only_in(Contexts::ServerAndLocation)
        .takes(Arguments::OneOrMore)
        .by_default("$http_x_auth_token $http_x_storage_token"),
        Directive::location(
            c"keystone_early",
            "Whether the user is known before limits and access modules.",
            |l, conf| l.set(&mut conf.early, Line::flag),
        )
        .only_in(Contexts::ServerAndLocation)
        .takes(Arguments::Flag)
        .by_default("off"),
        Directive::location(
            c"keystone_require_role",
            "Roles of which one is needed; each further line is a further condition.",
            |l, conf| {
                conf.require_roles.get_or_insert_default().push(l.names()?);
                conf.note_requirement("keystone_require_role", l.position());
                Ok(())
            },
        )
        .takes(Arguments::OneOrMore),
        Directive::location(
            c"keystone_require",
            "Values that must be neither empty nor \"0\".",
            |l, conf| {
                conf.require.get_or_insert_default().extend(l.required_values()?);
                conf.note_requirement("keystone_require", l.position());
                Ok(())
            },
        )
        .takes(Arguments::OneOrMore),
        Directive::location(
            c"keystone_enforce_token_bind",
            "How a token's bind is checked.",
            |l, conf| l.set(&mut conf.token_bind, Line::bind_mode),
        )
        .by_default("permissive"),
        Directive::location(
            c"keystone_client_certificate",
            "The client's certificate, for tokens that are bound to one.",
            |l, conf| l.set(&mut conf.client_certificate, Line::client_certificate),
        )
        .only_in(Contexts::ServerAndLocation)
        .by_default("$ssl_client_raw_cert"),
        Directive::location(
            c"keystone_service_token_roles",
            "Roles of which a service token must hold one.",
            |l, conf| l.set(&mut conf.service_token_roles, Line::names),
        )
        .takes(Arguments::OneOrMore)
        .by_default("service"),
        Directive::location(
            c"keystone_service_token_roles_required",
            "Whether a service token without these roles is refused.",
            |l, conf| l.set(&mut conf.service_token_roles_required, Line::flag),
        )
        .takes(Arguments::Flag)
        .by_default("on"),
        Directive::location(
            c"keystone_service_type",
            "The types of the services behind the location, for access rules.",
            |l, conf| l.set(&mut conf.service_types, Line::names),
        )
        .takes(Arguments::OneOrMore),
        Directive::location(
            c"keystone_service_path",
            "The path that the service behind the location gets, for access rules.",
            |l, conf| l.set(&mut conf.service_path, Line::uri_path_value),
        ),
        Directive::location(
            c"keystone_headers",
            "Whether the upstream gets identity headers.",
            |l, conf| l.set(&mut conf.headers, Line::flag),
        )
        .only_in(Contexts::ServerAndLocation)
        .takes(Arguments::Flag)
        .by_default("on"),
        Directive::location(
            c"keystone_include_service_catalog",
            "Whether the upstream gets the service catalog.",
            |l, conf| l.set(&mut conf.catalog, Line::flag),
        )
        .only_in(Contexts::ServerAndLocation)
        .takes(Arguments::Flag)
        .by_default("off"),
        Directive::location(
            c"keystone_forward_token",
            "Whether the upstream gets the token.",
            |l, conf| l.set(&mut conf.forward_token, Line::flag),
        )
        .only_in(Contexts::ServerAndLocation)
        .takes(Arguments::Flag)
        .by_default("on"),
        Directive::location(c"keystone_request_id", "Whether requests get an id.", |l, conf| {
            l.set(&mut conf.request_id, Line::flag)
        })
        .only_in(Contexts::ServerAndLocation)
        .takes(Arguments::Flag)
        .by_default("on"),
        Directive::location(
            c"keystone_cache_control",
            "Whether answers tell caches whom they are for.",
            |l, conf| l.set(&mut conf.cache_control, Line::flag),
        )
        .only_in(Contexts::ServerAndLocation)
        .takes(Arguments::Flag)
        .by_default("on"),
        Directive::location(
            c"keystone_status",
            "Answers with what the module counts.",
            |l, conf| {
                l.set(&mut conf.status, |l| l.one_of_or_none(FORMS, "\"json\" or \"prometheus\""))
            },
        )
        .only_in(Contexts::Location)
        .takes(Arguments::NoneOrOne),
    ];
}

const AUTH: &[(&str, Auth)] = &[("delay", Auth::Delay), ("off", Auth::Off), ("on", Auth::On)];

const FORMS: &[(&str, Form)] = &[("json", Form::Json), ("prometheus", Form::Prometheus)];
