//! The module's variables, in logs and in other directives.

use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
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
