//! The `keystone_swift_*` directives (http, server, location, limit_except).

use keystone_token::swift::{Acl, AclKind, Options, Settings};
use nginx_sys::ngx_http_complex_value_t;

use super::directive::{Directive, Place, Refused};

/// The directives of one level, and, once merged, of all levels around it.
#[derive(Default)]
pub struct SwiftConf {
    /// `keystone_swift_auth`, and where it was set.
    pub auth: Option<(bool, Place)>,
    /// `keystone_swift_reseller_prefix`.
    pub reseller_prefixes: Option<Vec<String>>,
    /// `keystone_swift_operator_roles`.
    pub operator_roles: Option<Roles>,
    /// `keystone_swift_service_roles`.
    pub service_roles: Option<Roles>,
    /// `keystone_swift_project_reader_roles`.
    pub project_reader_roles: Option<Roles>,
    /// `keystone_swift_system_reader_roles`.
    pub system_reader_roles: Option<Roles>,
    /// `keystone_swift_reseller_admin_role`.
    pub reseller_admin_role: Option<String>,
    /// `keystone_swift_allow_names_in_acls`.
    pub allow_names_in_acls: Option<bool>,
    /// `keystone_swift_default_domain_id`.
    pub default_domain_id: Option<String>,
    /// `keystone_swift_read_acl`.
    pub read_acl: Option<AclValue>,
    /// `keystone_swift_write_acl`.
    pub write_acl: Option<AclValue>,
    /// `keystone_swift_acl_file`; a path with a null behind it.
    pub acl_file: Option<ngx_http_complex_value_t>,
    /// What decides, where accounts are authorised; made when the levels are merged.
    settings: Option<Settings>,
}

/// Roles, each perhaps for one reseller prefix only, and where they stand.
#[derive(Clone)]
pub struct Roles {
    roles: Vec<String>,
    place: Place,
}

impl Roles {
    /// Those of a directive.
    pub fn read(d: &Directive<'_>) -> Result<Self, Refused> {
        Ok(Self { roles: d.words()?, place: d.place() })
    }
}

/// An ACL as configured.
#[derive(Clone)]
pub enum AclValue {
    /// The same for all requests.
    Constant(Acl),
    /// With variables.
    Variable(ngx_http_complex_value_t),
}

impl AclValue {
    /// That of a directive; one without variables is read now.
    pub fn read(d: &mut Directive<'_>, kind: AclKind) -> Result<Self, Refused> {
        let text = d.argument();
        let value = d.complex_value(text)?;
        if !value.lengths.is_null() {
            return Ok(Self::Variable(value));
        }
        let acl = Acl::parse(kind, text).map_err(|error| d.invalid(text, error))?;
        Ok(Self::Constant(acl))
    }
}

impl SwiftConf {
    /// Takes from the level around this one what this one leaves open.
    pub fn inherit(&mut self, outer: &Self) {
        inherit!(self, outer: auth reseller_prefixes operator_roles service_roles);
        inherit!(self, outer: project_reader_roles system_reader_roles reseller_admin_role);
        inherit!(self, outer: allow_names_in_acls default_domain_id);
        inherit!(self, outer: read_acl write_acl acl_file);
    }

    /// Whether this level says anything about accounts, besides whether to authorise them.
    pub fn has_settings(&self) -> bool {
        self.reseller_prefixes.is_some()
            || self.operator_roles.is_some()
            || self.service_roles.is_some()
            || self.project_reader_roles.is_some()
            || self.system_reader_roles.is_some()
            || self.reseller_admin_role.is_some()
            || self.allow_names_in_acls.is_some()
            || self.default_domain_id.is_some()
            || self.read_acl.is_some()
            || self.write_acl.is_some()
            || self.acl_file.is_some()
    }

    /// Where accounts are to be authorised, by `keystone_swift_auth on` as it stands there.
    pub fn is_on(&self) -> Option<&Place> {
        self.auth.as_ref().filter(|(on, _)| *on).map(|(_, place)| place)
    }

    /// Makes of the merged directives what decides; the reason and the place of one that cannot be
    /// used.
    pub fn finish(&mut self) -> Result<(), (String, Place)> {
        let Some(place) = self.is_on() else { return Ok(()) };
        let roles = |list: &Option<Roles>| list.as_ref().map(|list| list.roles.clone());
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
            Err(error) => {
                let (name, place) =
                    self.named(error.role()).unwrap_or(("keystone_swift_auth", place));
                return Err((format!("\"{name}\" {error}"), place.clone()));
            }
        }
        Ok(())
    }

    /// The directive that names this role.
    fn named(&self, role: &str) -> Option<(&'static str, &Place)> {
        let lists = [
            ("keystone_swift_operator_roles", &self.operator_roles),
            ("keystone_swift_service_roles", &self.service_roles),
            ("keystone_swift_project_reader_roles", &self.project_reader_roles),
            ("keystone_swift_system_reader_roles", &self.system_reader_roles),
        ];
        lists.into_iter().find_map(|(name, list)| {
            let list = list.as_ref()?;
            list.roles.iter().any(|named| named == role).then_some((name, &list.place))
        })
    }

    /// What decides, where accounts are authorised.
    pub fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    /// The ACL directive of this kind: its name, and its value where it is set.
    pub fn acl(&self, kind: AclKind) -> (&'static str, Option<&AclValue>) {
        match kind {
            AclKind::Read => ("keystone_swift_read_acl", self.read_acl.as_ref()),
            AclKind::Write => ("keystone_swift_write_acl", self.write_acl.as_ref()),
        }
    }
}
