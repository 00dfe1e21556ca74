//! The module's variables, in logs and in other directives.

use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::{check, Check, Config};
use keystone_testbed::wait_for;
use keystone_testbed::world::World;

#[test]
fn variables_in_a_log_and_in_configuration() {
    let format = "log_format identity escape=json '$keystone_identity_status|$keystone_user_id|\
        $keystone_user_name|$keystone_user_domain_id|$keystone_user_domain_name|\
        $keystone_project_id|$keystone_project_name|$keystone_project_domain_id|\
        $keystone_project_domain_name|$keystone_domain_id|$keystone_domain_name|\
        $keystone_system_scope|$keystone_roles|$keystone_is_admin_project|$keystone_audit_id|\
        $keystone_token_format|$keystone_cache_status|$keystone_auth_result';
        access_log @DIR@/identity.log identity;";
    let world = World::setup().offline().config(|config| config.http(format)).start();
    let payload = Payload::v3();
    let token = world.pki(&payload);
    let line = |number: usize| {
        wait_for("a line in the log", || {
            let log = std::fs::read_to_string(world.nginx.dir().join("identity.log")).ok()?;
            let lines: Vec<_> = log.lines().filter(|l| !l.ends_with("||||||")).collect();
            lines.get(number).map(|line| (*line).to_owned())
        })
        .unwrap()
    };
    world.send(&Request::get("/files/hello.txt").token(&token));
    let audit = payload.audit_id();
    assert_eq!(
        line(0),
        format!(
            "Confirmed|user_id1|user_name1|domain_id1|domain_name1|tenant_id1|tenant_name1|\
             domain_id1|domain_name1||||role1,role2|True|{audit}|pki|MISS|ok"
        )
    );
    world.send(&Request::get("/files/hello.txt").token(&world.pkiz(&Payload::v3_domain())));
    let domain = line(1);
    assert!(domain.contains("|domain_id1|domain_name1||role1,role2|True|"), "{domain}");
    assert!(domain.ends_with("|pkiz|MISS|ok"), "{domain}");
    world.send(&Request::get("/files/hello.txt").token("PKIZ_x"));
    let refused = line(2);
    assert!(refused.starts_with("Invalid||||"), "{refused}");
    assert!(refused.contains("|pkiz|") && refused.ends_with("|malformed"), "{refused}");
}

#[test]
fn variables_without_a_value_are_shown_as_a_dash() {
    let world = World::setup()
        .config(|config| {
            config
                .http("log_format dash '$keystone_user_id $keystone_expires_at';")
                .http("access_log @DIR@/dash.log dash;")
        })
        .start();
    world.send(&Request::get("/"));
    wait_for("a dash", || {
        let log = std::fs::read_to_string(world.nginx.dir().join("dash.log")).ok()?;
        log.lines().any(|line| line == "- -").then_some(())
    })
    .unwrap();
}

#[test]
fn expires_at_is_in_utc() {
    let world = World::setup()
        .offline()
        .location(
            "= /at",
            "keystone_auth on; add_header X-At $keystone_expires_at; try_files /files/hello.txt =404;",
        )
        .start();
    let token = world.pki(&Payload::v3().expires_at(4_000_000_000));
    let answer = world.send(&Request::get("/at").token(&token));
    let at = answer.header("X-At").unwrap();
    assert!(at.starts_with("2096-10-02T07:06:40") && at.ends_with('Z'), "{at}");
}

#[test]
fn variables_in_map_if_and_proxy_pass() {
    let world = World::setup()
        .offline()
        .config(|config| {
            config.http("map $keystone_project_id $pool { default none; tenant_id1 one; }")
        })
        .location("= /map", "keystone_auth on; add_header X-Pool $pool; proxy_pass @UPSTREAM@;")
        .location("= /cache", "keystone_auth on; proxy_pass @UPSTREAM@/$keystone_user_id;")
        .start();
    let token = world.pki(&Payload::v3());
    let answer = world.send(&Request::get("/map").token(&token));
    assert_eq!(answer.header("X-Pool"), Some("one"));
    assert_eq!(world.seen(&Request::get("/cache").token(&token)).target, "/user_id1");
}

/// SSI looks a variable up by its name when the page is served, as Lua, Perl and njs do.
#[test]
fn variables_that_are_found_by_name_while_a_request_is_served() {
    let page = "[<!--#echo var=\"keystone_user_id\" -->]\
                [<!--#echo var=\"KEYSTONE_Project_ID\" -->]\
                [<!--#echo var=\"keystone_no_such\" -->][<!--#echo var=\"keystone_\" -->]\
                [<!--#echo var=\"keystone_service_user_id\" -->]";
    let world = World::setup()
        .offline()
        .location("/page/", "keystone_auth on; ssi on; ssi_types text/plain;")
        .files(|dir| {
            std::fs::create_dir_all(dir.join("html/page")).unwrap();
            std::fs::write(dir.join("html/page/page.txt"), page).unwrap();
        })
        .start();
    let token = world.pki(&Payload::v3());
    let answer = world.send(&Request::get("/page/page.txt").token(&token));
    assert_eq!(answer.text(), "[user_id1][tenant_id1][(none)][(none)][(none)]");
}

#[test]
fn a_name_that_no_variable_has_is_refused() {
    for name in ["keystone_foo", "keystone_user", "keystone_", "keystone_user_ids"] {
        for line in [
            format!("log_format odd '${name}';"),
            format!("map ${name} $odd {{ default 1; }}"),
            format!("keystone_require ${name};"),
        ] {
            let Check { ok, text } = check(&Config::protected().http(&line)).unwrap();
            assert!(
                !ok && text.contains(&format!("unknown \"{name}\" variable")),
                "{line}: {text}"
            );
        }
    }
    // A name of the operator's own, and one of the module's that is set.
    let Check { ok, text } = check(&Config::protected().http(
        "map $uri $keystone_own { default 1; } log_format own '$keystone_own $keystone_user_id';",
    ))
    .unwrap();
    assert!(ok, "{text}");
    let set = Config::protected().location("/", "set $keystone_user_id me;");
    let Check { ok, text } = check(&set).unwrap();
    assert!(!ok && text.contains("the duplicate \"keystone_user_id\" variable"), "{text}");
}

/// nginx warns at each start where its hash of variables is too small for its bounds. The module
/// must not bring it there: other modules, geoip among them, and maps have variables too.
#[test]
fn the_variables_leave_room_for_others() {
    let mut warned = Vec::new();
    for count in [0, 10, 20, 30, 40] {
        let maps: String =
            (0..count).map(|it| format!("map $uri $other_{it}_var {{ default 1; }}\n")).collect();
        let used = "log_format used '$keystone_user_id $keystone_roles $keystone_auth_result';";
        let with = check(&Config::protected().http(&maps).http(used)).unwrap();
        assert!(with.ok, "{}", with.text);
        if with.text.contains("variables_hash") {
            warned.push((count, with.text));
        }
    }
    assert!(warned.is_empty(), "{warned:?}");
}
