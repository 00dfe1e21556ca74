//! The directives of one level, and how a server takes over those of `http`.

use std::collections::BTreeMap;

use super::reader::Directive;

/// The directives about the identity service, by their first names.
#[derive(Clone, Debug, Default)]
pub struct Level(BTreeMap<String, Directive>);

impl Level {
    /// Those that stand in a block itself.
    pub fn read(block: &[Directive]) -> Self {
        let of_interest = |name: &str| name.starts_with("keystone_") || name == HEADER_BUFFERS;
        let directives = block.iter().filter(|directive| of_interest(&directive.name));
        Self(directives.map(|it| (canonical(&it.name).to_owned(), it.clone())).collect())
    }

    /// With what the level around this one sets and this one does not.  There are three kinds of
    /// credentials, and a level that sets a directive of one kind inherits nothing of another.
    pub fn within(mut self, outer: &Self) -> Self {
        let mine: Vec<&[&str]> = CREDENTIALS
            .into_iter()
            .filter(|kind| kind.iter().any(|name| self.0.contains_key(*name)))
            .collect();
        let is_foreign = |name: &str| {
            let kind = CREDENTIALS.into_iter().find(|kind| kind.contains(&name));
            !mine.is_empty() && kind.is_some_and(|kind| !mine.contains(&kind))
        };
        for (name, directive) in &outer.0 {
            if !self.0.contains_key(name) && !is_foreign(name) {
                self.0.insert(name.clone(), directive.clone());
            }
        }
        self
    }

    /// The directive of that name.
    pub fn find(&self, name: &str) -> Option<&Directive> {
        self.0.get(name)
    }
}

/// Some directives have a second name, which auth_token's old options had.
fn canonical(name: &str) -> &str {
    match name {
        "keystone_admin_user" => "keystone_username",
        "keystone_admin_password" => "keystone_password",
        "keystone_admin_tenant_name" => "keystone_project_name",
        name => name,
    }
}

/// nginx's own directive for the buffers that a token has to fit into.
pub const HEADER_BUFFERS: &str = "large_client_header_buffers";

const CREDENTIALS: [&[&str]; 3] = [
    &["keystone_admin_token"],
    &["keystone_username", "keystone_password", "keystone_project_name"],
    &["keystone_application_credential_id", "keystone_application_credential_secret"],
];
