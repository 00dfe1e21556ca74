//! Directives as they are read: defaults, inheritance, and what is refused.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keystone_conf::{
    count_names, directives, ConfError, Credentials, Directive, Host, LocationConf, MainConf,
    Position, ServerConf, ServiceSettings, Setter, SettingsError, ValueKind,
};

/// A reader whose files lie in `/etc/nginx` and whose line is 7.
struct Reader;

impl Host for Reader {
    type Value = String;

    fn position(&self) -> Position {
        Position { file: "/etc/nginx/nginx.conf".into(), line: 7 }
    }

    fn full_path(&mut self, path: &str) -> Option<PathBuf> {
        Some(Path::new("/etc/nginx").join(path))
    }

    fn compile(&mut self, text: &str, _: ValueKind) -> Option<String> {
        keystone_conf::value::has_valid_variables(text).then(|| text.to_owned())
    }
}

/// One level of a configuration.
#[derive(Default)]
struct Level {
    main: MainConf,
    server: ServerConf,
    location: LocationConf<String>,
}

impl Level {
    fn read(lines: &[&str]) -> Result<Self, ConfError> {
        let mut level = Self::default();
        lines.iter().try_for_each(|line| level.add(line)).map(|()| level)
    }

    fn add(&mut self, line: &str) -> Result<(), ConfError> {
        let words: Vec<&str> = line.split(' ').map(|word| word.trim_matches('\'')).collect();
        let (name, arguments) = words.split_first().unwrap();
        let directive = Directive::<String>::find(name).unwrap_or_else(|| panic!("no {name}"));
        let mut reader = Reader;
        let mut line = directive.line(&mut reader, name, arguments)?;
        match directive.setter {
            Setter::Main(set) => set(&mut line, &mut self.main),
            Setter::Server(set) => set(&mut line, &mut self.server),
            Setter::Location(set) => set(&mut line, &mut self.location),
        }
    }

    fn inherit(mut self, outer: &Self) -> Self {
        self.server.inherit(&outer.server);
        self.location.inherit(&outer.location);
        self
    }

    fn settings(&self) -> ServiceSettings {
        let (settings, errors) = self.server.settings("/var/lib/nginx/keystone".into());
        assert_eq!(errors, []);
        settings
    }

    fn errors(&self) -> Vec<SettingsError> {
        self.server.settings("/var/lib/nginx/keystone".into()).1
    }
}

#[test]
fn every_default_is_what_the_settings_have_without_the_directive() {
    let user = ["keystone_username u", "keystone_password p", "keystone_auth_uri http://a"];
    let without = Level::read(&user).unwrap();
    let mut seen = 0;
    for directive in directives::<String>().into_iter().flatten() {
        let Some(default) = directive.default else { continue };
        let mut with = Level::read(&user).unwrap();
        let name = directive.name();
        with.add(&format!("{name} {default}")).unwrap();
        assert_eq!(with.settings(), without.settings(), "{name}");
        let of_server = |it: &Level| {
            let server = &it.server;
            (server.token_cache_time(), server.invalid_cache_time(), server.hash_algorithm())
        };
        assert_eq!(of_server(&with), of_server(&without), "{name}");
        assert_eq!(with.main.zone(), without.main.zone(), "{name}");
        assert_eq!(of_location(&with), of_location(&without), "{name}");
        assert_eq!(swift(&with), swift(&without), "{name}");
        seen += 1;
    }
    assert!(seen > 30, "{seen}");
}

/// What a location does, in words that can be compared.
fn of_location(level: &Level) -> String {
    let it = &level.location;
    let flags = [
        it.requires_service_roles(),
        it.sets_headers(),
        it.sets_catalog(),
        it.forwards_token(),
        it.sets_cache_control(),
        it.is_early(),
        it.swift.is_on().is_some(),
    ];
    format!("{:?} {:?} {:?} {flags:?}", it.auth(), it.token_bind(), it.service_token_roles())
}

/// What decides about accounts, where they are authorised.
fn swift(level: &Level) -> Option<keystone_token::swift::Settings> {
    let mut swift = level.location.swift.clone();
    swift.auth = Some((true, Position::default()));
    swift.finish().unwrap();
    swift.settings().cloned()
}

#[test]
fn every_name_is_there_once() {
    let all = || directives::<String>().into_iter().flatten();
    let names = all().flat_map(|it| [Some(it.name), it.alias]).flatten();
    let names: Vec<&str> = names.map(|name| name.to_str().unwrap()).collect();
    assert_eq!(names.len(), count_names::<String>());
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    assert!(names.iter().all(|name| name.starts_with("keystone_")));
    assert!(all().all(|it| it.about.ends_with('.')));
    assert!(Directive::<String>::find("keystone_admin_user").is_some());
    assert!(Directive::<String>::find("keystone_").is_none());
}

#[test]
fn a_level_takes_what_it_does_not_set_from_the_one_around_it() {
    let outer = Level::read(&[
        "keystone_auth_uri http://127.0.0.1:5000",
        "keystone_username a",
        "keystone_password b",
        "keystone_revocation_cache_time 30s",
        "keystone_require_role one",
        "keystone_auth on",
    ])
    .unwrap();
    let inner = Level::read(&["keystone_read_timeout 1m"]).unwrap().inherit(&outer);
    let settings = inner.settings();
    assert_eq!(settings.identity_uris[0].as_str(), "http://127.0.0.1:5000");
    assert_eq!(settings.revocation_cache_time, Duration::from_secs(30));
    assert_eq!(settings.read_timeout, Duration::from_secs(60));
    assert!(matches!(settings.credentials, Credentials::Password { .. }));
    assert_eq!(inner.location.require_roles(), [["one"]]);
    assert_eq!(inner.location.protection().unwrap().unwrap().line, 7);

    let other = ["keystone_admin_token t", "keystone_require_role two", "keystone_auth off"];
    let inner = Level::read(&other).unwrap().inherit(&outer);
    assert!(matches!(inner.settings().credentials, Credentials::Token(_)));
    assert_eq!(inner.location.require_roles(), [["two"]]);
    assert_eq!(inner.location.protection(), Ok(None));
}

#[test]
fn what_a_directive_refuses_reads_as_nginx_says_it() {
    for (line, message) in [
        (
            "keystone_auth yes",
            "invalid value \"yes\" in \"keystone_auth\" directive, it must be \"on\", \"off\" or \
             \"delay\"",
        ),
        (
            "keystone_ssl_verify maybe",
            "invalid value \"maybe\" in \"keystone_ssl_verify\" directive, it must be \"on\" or \
             \"off\"",
        ),
        (
            "keystone_status xml",
            "invalid value \"xml\" in \"keystone_status\" directive, it must be \"json\" or \
             \"prometheus\"",
        ),
        (
            "keystone_client_certificate /etc/nginx/client.pem",
            "invalid value \"/etc/nginx/client.pem\" in \"keystone_client_certificate\" directive, \
             it must be a value with variables",
        ),
        (
            "keystone_service_path v2.1",
            "invalid value \"v2.1\" in \"keystone_service_path\" directive, it must be a path that \
             begins with \"/\"",
        ),
        (
            "keystone_service_path ''",
            "invalid value \"\" in \"keystone_service_path\" directive, it must not be empty",
        ),
        (
            "keystone_service_path /a${",
            "invalid value \"/a${\" in \"keystone_service_path\" directive, it has an invalid variable",
        ),
        ("keystone_status a b", "invalid number of arguments in \"keystone_status\" directive"),
        ("keystone_auth", "invalid number of arguments in \"keystone_auth\" directive"),
        (
            "keystone_require_role",
            "invalid number of arguments in \"keystone_require_role\" directive",
        ),
        (
            "keystone_auth_uri ftp://a",
            "invalid value \"ftp://a\" in \"keystone_auth_uri\" directive, it must start with \
             http:// or https:// and a host",
        ),
        (
            "keystone_identity_uri http://a http://me:secret@b",
            "invalid value \"...\" in \"keystone_identity_uri\" directive, it must have neither a \
             user, a query nor a fragment",
        ),
        (
            "keystone_identity_uri http://a:0",
            "invalid value \"http://a:0\" in \"keystone_identity_uri\" directive, its port must \
             be a number from 1 to 65535",
        ),
        (
            "keystone_auth_version v1",
            "invalid value \"v1\" in \"keystone_auth_version\" directive, it must be \"auto\", \
             \"v2.0\" or \"v3\"",
        ),
        (
            "keystone_admin_user ''",
            "invalid value \"\" in \"keystone_admin_user\" directive, it must not be empty",
        ),
        (
            "keystone_username a\nb",
            "invalid value \"a\\nb\" in \"keystone_username\" directive, it must not have a \
             control character",
        ),
        (
            "keystone_password ''",
            "invalid secret in \"keystone_password\" directive, it must not be empty",
        ),
        (
            "keystone_password file:/no/such/file",
            "cannot read \"/no/such/file\" of \"keystone_password\" directive: No such file or \
             directory (os error 2)",
        ),
        (
            "keystone_password file:/dev/null",
            "cannot read \"/dev/null\" of \"keystone_password\" directive: it is not a regular \
             file",
        ),
        (
            "keystone_ssl_trusted_certificate /dev",
            "cannot read \"/dev\" of \"keystone_ssl_trusted_certificate\" directive: it is not a \
             regular file",
        ),
        (
            "keystone_jws_keys /no/such/key",
            "cannot read \"/no/such/key\" of \"keystone_jws_keys\" directive: No such file or \
             directory (os error 2)",
        ),
        (
            "keystone_jws_keys /dev/null",
            "cannot read \"/dev/null\" of \"keystone_jws_keys\" directive: it is not a regular \
             file",
        ),
        (
            "keystone_connect_timeout 0",
            "invalid value \"0\" in \"keystone_connect_timeout\" directive, it must be longer \
             than 0",
        ),
        (
            "keystone_token_cache_time no",
            "invalid value \"no\" in \"keystone_token_cache_time\" directive, it must be a time \
             such as \"30s\" or \"5m\"",
        ),
        (
            "keystone_max_pending 0",
            "invalid value \"0\" in \"keystone_max_pending\" directive, it must be a whole \
             number, at least 1",
        ),
        (
            "keystone_hash_algorithms md5 md4",
            "invalid value \"md4\" in \"keystone_hash_algorithms\" directive, it must be md5, \
             sha1, sha224, sha256, sha384 or sha512",
        ),
        (
            "keystone_hash_algorithms md5 md5",
            "invalid value \"md5\" in \"keystone_hash_algorithms\" directive, it is named twice",
        ),
        (
            "keystone_cache_zone x:10m",
            "invalid value \"x:10m\" in \"keystone_cache_zone\" directive, it must be \
             zone=NAME:SIZE",
        ),
        (
            "keystone_cache_zone zone=x:many",
            "invalid value \"zone=x:many\" in \"keystone_cache_zone\" directive, its size must \
             be such as \"512k\" or \"10m\"",
        ),
        (
            "keystone_cache_zone zone=x:1k",
            "invalid value \"zone=x:1k\" in \"keystone_cache_zone\" directive, its size must be \
             at least 256k",
        ),
        (
            "keystone_memcached_servers localhost",
            "invalid value \"localhost\" in \"keystone_memcached_servers\" directive, it must be \
             HOST:PORT or unix:PATH",
        ),
        (
            "keystone_memcached_security_strategy rot13",
            "invalid value \"rot13\" in \"keystone_memcached_security_strategy\" directive, it \
             must be \"none\", \"mac\" or \"encrypt\"",
        ),
        (
            "keystone_require $x keystone_user_id",
            "invalid value \"keystone_user_id\" in \"keystone_require\" directive, it has no variable, \
             so every request meets it",
        ),
        (
            "keystone_enforce_token_bind Strict",
            "invalid value \"Strict\" in \"keystone_enforce_token_bind\" directive, it must be \
             \"disabled\", \"permissive\", \"strict\", \"required\" or the name of a bind",
        ),
        (
            "keystone_ssl_name keystone:5000",
            "invalid value \"keystone:5000\" in \"keystone_ssl_name\" directive, it must be a host name \
             or an address, without a scheme, a port or a variable",
        ),
        (
            "keystone_token_cache_time 0",
            "invalid value \"0\" in \"keystone_token_cache_time\" directive, it must be longer than 0, \
             or \"off\"",
        ),
        (
            "keystone_keepalive 99999999999999999999",
            "invalid value \"99999999999999999999\" in \"keystone_keepalive\" directive, it is too large",
        ),
        (
            "keystone_identity_uri http://::1:5000",
            "invalid value \"http://::1:5000\" in \"keystone_identity_uri\" directive, its host must be \
             a name, an IPv4 address, or an IPv6 address in brackets",
        ),
        (
            "keystone_require $x ${y",
            "invalid value \"${y\" in \"keystone_require\" directive, it has an invalid variable",
        ),
        (
            "keystone_require_role admin,member reader",
            "invalid value \"admin,member\" in \"keystone_require_role\" directive, names are \
             separated by blanks: \"keystone_require_role admin member reader;\"",
        ),
        (
            "keystone_service_token_roles service,",
            "invalid value \"service,\" in \"keystone_service_token_roles\" directive, names are \
             separated by blanks: \"keystone_service_token_roles service;\"",
        ),
        (
            "keystone_swift_reseller_prefix AUTH,SERVICE",
            "invalid value \"AUTH,SERVICE\" in \"keystone_swift_reseller_prefix\" directive, \
             names are separated by blanks: \"keystone_swift_reseller_prefix AUTH SERVICE;\"",
        ),
        (
            "keystone_hash_algorithms sha256,md5",
            "invalid value \"sha256,md5\" in \"keystone_hash_algorithms\" directive, names are \
             separated by blanks: \"keystone_hash_algorithms sha256 md5;\"",
        ),
        (
            "keystone_memcached_servers a:1, b:2",
            "invalid value \"a:1,\" in \"keystone_memcached_servers\" directive, names are \
             separated by blanks: \"keystone_memcached_servers a:1 b:2;\"",
        ),
        (
            "keystone_swift_reseller_admin_role a,b",
            "invalid value \"a,b\" in \"keystone_swift_reseller_admin_role\" directive, it is one \
             name and cannot have a comma",
        ),
        (
            "keystone_swift_read_acl .x:y",
            "invalid value \".x:y\" in \"keystone_swift_read_acl\" directive, it is not an ACL: \
             \".x:y\" begins with a dot but is not \".r:\"",
        ),
    ] {
        let error = Level::read(&[line]).err().unwrap_or_else(|| panic!("{line} was accepted"));
        assert_eq!(error.to_string(), message);
    }
    let twice = Level::read(&["keystone_admin_user a", "keystone_username b"]);
    assert_eq!(twice.err().unwrap().to_string(), "\"keystone_username\" directive is duplicate");
    let directive = Directive::<String>::find("keystone_headers").unwrap();
    assert!(directive.check_context("location", "keystone_headers").is_ok());
    assert_eq!(
        directive.check_context("limit_except", "keystone_headers").unwrap_err().to_string(),
        "\"keystone_headers\" directive is not allowed here"
    );
}

#[test]
fn a_refused_secret_is_not_in_the_error() {
    for line in [
        "keystone_password hunter2\r",
        "keystone_admin_token hunter2 hunter2",
        "keystone_proxy http://u:hunter2@",
        // The proxy's `@` is encoded by mistake.
        "keystone_proxy http://u:hunter2%40proxy:3128",
        "keystone_identity_uri http://u:hunter2%40cloud",
    ] {
        let error = Level::read(&[line]).err().unwrap();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[test]
fn what_does_not_fit_together_is_reported_and_left_out() {
    for (lines, message) in [
        (
            &["keystone_username u"][..],
            "\"keystone_username\" and \"keystone_password\" must be set together",
        ),
        (
            &["keystone_application_credential_secret s"],
            "\"keystone_application_credential_id\" and \
             \"keystone_application_credential_secret\" must be set together",
        ),
        (
            &["keystone_admin_token t", "keystone_username u"],
            "only one of \"keystone_admin_token\", \"keystone_username\" and \
             \"keystone_application_credential_id\" can be set",
        ),
        (
            &[concat!("keystone_ssl_certificate ", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")],
            "\"keystone_ssl_certificate\" and \"keystone_ssl_certificate_key\" must be set \
             together",
        ),
        (
            &["keystone_memcached_security_strategy mac"],
            "\"keystone_memcached_secret_key\" directive is missing for \
             \"keystone_memcached_security_strategy mac\"",
        ),
    ] {
        let level = Level::read(lines).unwrap();
        let errors: Vec<String> = level.errors().iter().map(ToString::to_string).collect();
        assert_eq!(errors, [message]);
        let (settings, _) = level.server.settings("/var/lib/nginx/keystone".into());
        assert_eq!(settings, Level::default().settings());
    }
    let lines = [
        "keystone_auth_version v2.0",
        "keystone_application_credential_id i",
        "keystone_application_credential_secret s",
    ];
    let errors = Level::read(&lines).unwrap().errors();
    assert_eq!(
        errors[0].to_string(),
        "\"keystone_application_credential_id\" needs API v3, and \"keystone_auth_version\" is v2.0"
    );
    let no_uri = ServerConf::default().announced_uri().unwrap_err();
    assert_eq!(
        no_uri.to_string(),
        "\"keystone_auth_uri\" directive is missing for \"keystone_auth\""
    );
    let alone = Level::read(&["keystone_swift_auth on"]).unwrap().location;
    assert_eq!(
        alone.protection().unwrap_err().to_string(),
        "\"keystone_auth\" directive is missing for \"keystone_swift_auth\" in \
         /etc/nginx/nginx.conf:7"
    );
    let lines = ["keystone_swift_auth on", "keystone_swift_service_roles KEY:a"];
    let mut unknown = Level::read(&lines).unwrap().location;
    assert_eq!(
        unknown.swift.finish().unwrap_err().to_string(),
        "invalid \"keystone_swift_service_roles\" directive: role \"KEY:a\" is for \"KEY_\", \
         which is none of the reseller prefixes in /etc/nginx/nginx.conf:7"
    );
    let one = Level::read(&["keystone_auth_uri http://a"]).unwrap().settings();
    let two = Level::read(&["keystone_auth_uri http://b"]).unwrap().settings();
    assert!(one.check_beside(&one).is_ok());
    assert_eq!(
        one.check_beside(&two).unwrap_err().to_string(),
        "two identity services share the keystone_signing_dir /var/lib/nginx/keystone, each needs its \
         own"
    );
}
