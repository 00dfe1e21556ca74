//! Directives about Swift's accounts.

use keystone_token::swift::AclKind;

use super::{Arguments, Contexts, Directive};
use crate::line::Line;

struct Table<V>(std::marker::PhantomData<V>);

/// The directives about accounts.
pub const fn directives<V: Clone + 'static>() -> &'static [Directive<V>] {
    Table::<V>::DIRECTIVES
}

impl<V: Clone + 'static> Table<V> {
    const DIRECTIVES: &'static [Directive<V>] = &[
        Directive::location(
            c"keystone_swift_auth",
            "Whether accounts are authorised as Swift's keystoneauth does.",
            |l, conf| {
                let position = l.position();
                l.set(&mut conf.swift.auth, |l| Ok((l.flag()?, position)))
            },
        )
        .takes(Arguments::Flag)
        .by_default("off"),
        Directive::location(
            c"keystone_swift_reseller_prefix",
            "The prefixes of accounts.",
            |l, conf| l.set(&mut conf.swift.reseller_prefixes, Line::names_or_empty),
        )
        .takes(Arguments::OneOrMore)
        .by_default("AUTH_"),
        Directive::location(
            c"keystone_swift_operator_roles",
            "Roles that may do everything in their project's account.",
            |l, conf| l.set(&mut conf.swift.operator_roles, Line::names_and_position),
        )
        .takes(Arguments::OneOrMore)
        .by_default("admin swiftoperator"),
        Directive::location(
            c"keystone_swift_service_roles",
            "Roles that a service token must hold besides.",
            |l, conf| l.set(&mut conf.swift.service_roles, Line::names_and_position),
        )
        .takes(Arguments::OneOrMore),
        Directive::location(
            c"keystone_swift_project_reader_roles",
            "Roles that may read their project's account.",
            |l, conf| l.set(&mut conf.swift.project_reader_roles, Line::names_and_position),
        )
        .takes(Arguments::OneOrMore),
        Directive::location(
            c"keystone_swift_system_reader_roles",
            "Roles that may read all accounts.",
            |l, conf| l.set(&mut conf.swift.system_reader_roles, Line::names_and_position),
        )
        .takes(Arguments::OneOrMore),
        Directive::location(
            c"keystone_swift_reseller_admin_role",
            "The role that may do everything in all accounts.",
            |l, conf| l.set(&mut conf.swift.reseller_admin_role, Line::name),
        )
        .by_default("ResellerAdmin"),
        Directive::location(
            c"keystone_swift_read_acl",
            "Who may read the container.",
            |l, conf| l.set(&mut conf.swift.read_acl, |l| l.acl(AclKind::Read)),
        ),
        Directive::location(
            c"keystone_swift_write_acl",
            "Who may write the container.",
            |l, conf| l.set(&mut conf.swift.write_acl, |l| l.acl(AclKind::Write)),
        ),
        Directive::location(
            c"keystone_swift_acl_file",
            "The file with the container's ACLs.",
            |l, conf| l.set(&mut conf.swift.acl_file, Line::path_value),
        ),
        Directive::location(
            c"keystone_swift_delete_containers",
            "Whether a DELETE removes the directory of a container without objects.",
            |l, conf| l.set(&mut conf.swift.delete_containers, Line::flag),
        )
        .only_in(Contexts::ServerAndLocation)
        .takes(Arguments::Flag)
        .by_default("off"),
        Directive::location(
            c"keystone_swift_allow_names_in_acls",
            "Whether ACLs may name projects and users.",
            |l, conf| l.set(&mut conf.swift.allow_names_in_acls, Line::flag),
        )
        .takes(Arguments::Flag)
        .by_default("on"),
        Directive::location(
            c"keystone_swift_default_domain_id",
            "The domain in which names in ACLs count.",
            |l, conf| l.set(&mut conf.swift.default_domain_id, Line::name),
        )
        .by_default("default"),
    ];
}
