//! The `keystone_swift_*` directives (http, server, location, limit_except).

use keystone_token::swift::{Acl, AclKind, Options, Settings};

use crate::error::{ErrorAt, SettingsError};
use crate::inherit::inherit;
use crate::position::Position;

/// The directives of one level, and, once merged, of all levels around it. `V` is a value with
/// variables.
#[derive(Clone)]
pub struct SwiftConf<V> {
    /// `keystone_swift_auth`, and where it was set.
    pub auth: Option<(bool, Position)>,
    /// `keystone_swift_reseller_prefix`.
    pub reseller_prefixes: Option<Vec<String>>,
    /// `keystone_swift_operator_roles`, each perhaps for one reseller prefix only.
    pub operator_roles: Option<(Vec<String>, Position)>,
    /// `keystone_swift_service_roles`, with its position.
    pub service_roles: Option<(Vec<String>, Position)>,
    /// `keystone_swift_project_reader_roles`, with its position.
    pub project_reader_roles: Option<(Vec<String>, Position)>,
    /// `keystone_swift_system_reader_roles`, with its position.
    pub system_reader_roles: Option<(Vec<String>, Position)>,
    /// `keystone_swift_reseller_admin_role`.
    pub reseller_admin_role: Option<String>,
    /// `keystone_swift_allow_names_in_acls`.
    pub allow_names_in_acls: Option<bool>,
    /// `keystone_swift_default_domain_id`.
    pub default_domain_id: Option<String>,
    /// `keystone_swift_read_acl`.
    pub read_acl: Option<AclValue<V>>,
    /// `keystone_swift_write_acl`.
    pub write_acl: Option<AclValue<V>>,
    /// `keystone_swift_acl_file`.
    pub acl_file: Option<V>,
    /// `keystone_swift_delete_containers`.
    pub delete_containers: Option<bool>,
    /// What decides, where accounts are authorised; made when the levels are merged.
    settings: Option<Settings>,
}

/// The value of `keystone_swift_read_acl` or `keystone_swift_write_acl`.
#[derive(Clone)]
pub enum AclValue<V> {
    /// The same for all requests.
    Constant(Acl),
    /// A value with variables.
    Variable(V),
}

// Derived, it would ask for a default of `V`.
impl<V> Default for SwiftConf<V> {
    fn default() -> Self {
        Self {
            auth: None,
            reseller_prefixes: None,
            operator_roles: None,
            service_roles: None,
            project_reader_roles: None,
            system_reader_roles: None,
            reseller_admin_role: None,
            allow_names_in_acls: None,
            default_domain_id: None,
            read_acl: None,
            write_acl: None,
            acl_file: None,
            delete_containers: None,
            settings: None,
        }
    }
}

impl<V: Clone> SwiftConf<V> {
    /// Takes from the level around this one what this one leaves open.
    pub(crate) fn inherit(&mut self, outer: &Self) {
        let Self {
            auth,
            reseller_prefixes,
            operator_roles,
            service_roles,
            project_reader_roles,
            system_reader_roles,
            reseller_admin_role,
            allow_names_in_acls,
            default_domain_id,
            read_acl,
            write_acl,
            acl_file,
            delete_containers,
            // Made of the merged level.
            settings: _,
        } = self;
        inherit(auth, &outer.auth);
        inherit(reseller_prefixes, &outer.reseller_prefixes);
        inherit(operator_roles, &outer.operator_roles);
        inherit(service_roles, &outer.service_roles);
        inherit(project_reader_roles, &outer.project_reader_roles);
        inherit(system_reader_roles, &outer.system_reader_roles);
        inherit(reseller_admin_role, &outer.reseller_admin_role);
        inherit(allow_names_in_acls, &outer.allow_names_in_acls);
        inherit(default_domain_id, &outer.default_domain_id);
        inherit(read_acl, &outer.read_acl);
        inherit(write_acl, &outer.write_acl);
        inherit(acl_file, &outer.acl_file);
        inherit(delete_containers, &outer.delete_containers);
    }
}

impl<V> SwiftConf<V> {
    /// Whether this level says anything about accounts, besides whether to authorise them.
    pub fn has_settings(&self) -> bool {
        let Self {
            auth: _,
            reseller_prefixes,
            operator_roles,
            service_roles,
            project_reader_roles,
            system_reader_roles,
            reseller_admin_role,
            allow_names_in_acls,
            default_domain_id,
            read_acl,
            write_acl,
            acl_file,
            // It has an effect without authorisation.
            delete_containers: _,
            settings: _,
        } = self;
        reseller_prefixes.is_some()
            || operator_roles.is_some()
            || service_roles.is_some()
            || project_reader_roles.is_some()
            || system_reader_roles.is_some()
            || reseller_admin_role.is_some()
            || allow_names_in_acls.is_some()
            || default_domain_id.is_some()
            || read_acl.is_some()
            || write_acl.is_some()
            || acl_file.is_some()
    }

    /// Whether a `DELETE` removes the directory of a container without objects.
    pub fn deletes_containers(&self) -> bool {
        self.delete_containers.unwrap_or(false)
    }

    /// Where accounts are to be authorised: the position of `keystone_swift_auth on`.
    pub fn is_on(&self) -> Option<&Position> {
        self.auth.as_ref().filter(|(on, _)| *on).map(|(_, position)| position)
    }

    /// Makes of the merged directives what decides.
    pub fn finish(&mut self) -> Result<(), ErrorAt<SettingsError>> {
        let Some(position) = self.is_on() else { return Ok(()) };
        let roles =
            |list: &Option<(Vec<String>, Position)>| list.as_ref().map(|(it, _)| it.clone());
        let options = Options {
            reseller_prefixes: self.reseller_prefixes.clone(),
            operator_roles: roles(&self.operator_roles),
            service_roles: roles(&self.service_roles),
            project_reader_roles: roles(&self.project_reader_roles),
            system_reader_roles: roles(&self.system_reader_roles),
            reseller_admin_role: self.reseller_admin_role.clone(),
            allow_names_in_acls: self.allow_names_in_acls,
            default_domain_id: self.default_domain_id.clone(),
        };
        match Settings::new(&options) {
            Ok(settings) => self.settings = Some(settings),
            Err(source) => {
                let (directive, position) =
                    self.named(source.role()).unwrap_or(("keystone_swift_auth", position));
                let error = SettingsError::SwiftRole { directive, source };
                return Err(ErrorAt { error, position: position.clone() });
            }
        }
        Ok(())
    }

    /// The directive that names this role.
    fn named(&self, role: &str) -> Option<(&'static str, &Position)> {
        let lists = [
            ("keystone_swift_operator_roles", &self.operator_roles),
            ("keystone_swift_service_roles", &self.service_roles),
            ("keystone_swift_project_reader_roles", &self.project_reader_roles),
            ("keystone_swift_system_reader_roles", &self.system_reader_roles),
        ];
        lists.into_iter().find_map(|(name, list)| {
            let (roles, position) = list.as_ref()?;
            roles.iter().any(|named| named == role).then_some((name, position))
        })
    }

    /// What decides, where accounts are authorised.
    pub fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    /// The ACL directive of this kind: its name, and its value where it is set.
    pub fn acl(&self, kind: AclKind) -> (&'static str, Option<&AclValue<V>>) {
        match kind {
            AclKind::Read => ("keystone_swift_read_acl", self.read_acl.as_ref()),
            AclKind::Write => ("keystone_swift_write_acl", self.write_acl.as_ref()),
        }
    }
}
