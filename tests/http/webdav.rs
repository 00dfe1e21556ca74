//! What `COPY`, `MOVE` and `DELETE` of ngx_http_dav_module use besides the path of the request.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::{was_built_with, worker_ids};
use keystone_testbed::world::{Setup, World};
use serde_json::json;

const METHODS: &str = "keystone_auth on; dav_methods PUT DELETE COPY MOVE;";
const ADMINS: &str =
    "keystone_auth on; keystone_require_role admin; dav_methods PUT DELETE COPY MOVE;";

/// With these files, whose text is their path, in directories of the workers' user; `None` where
/// nginx has no such methods.
fn files(setup: Setup, paths: &'static [&str]) -> Option<World> {
    let fill = |dir: &Path| {
        let (user, group) = worker_ids();
        for path in paths {
            let file = dir.join("html").join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, path).unwrap();
            let all = Path::new(path).ancestors();
            for path in all.filter(|path| path.as_os_str() != "") {
                chown(dir.join("html").join(path), Some(user), Some(group)).unwrap();
            }
        }
    };
    was_built_with("--with-http_dav_module").then(|| setup.offline().files(fill).start())
}

fn send(world: &World, token: &str, method: &str, from: &str, to: &str) -> u16 {
    let request = Request::new(method, from).token(token).header("Destination", to);
    world.send(&request).status
}

fn text(world: &World, path: &str) -> Option<String> {
    fs::read_to_string(world.nginx.dir().join("html").join(path)).ok()
}

#[test]
fn a_location_has_a_slash_where_the_next_has_a_lower_character() {
    // nginx sorts locations with the slash as the lowest character.
    let others = ["/data/x/", "/data-x/", "/data.x/"];
    let setup = World::setup().location("/", METHODS);
    let setup = others.iter().fold(setup, |setup, name| setup.location(name, ADMINS));
    let paths = &["file", "data/file", "data/x/file", "data-x/file", "data.x/file"];
    let Some(world) = files(setup, paths) else { return };
    let token = world.pki(&Payload::v3());
    for name in others {
        let stolen = format!("{name}stolen");
        assert_eq!(send(&world, &token, "COPY", "/file", &stolen), 403, "{name}");
    }
    assert_eq!(send(&world, &token, "COPY", "/file", "/data/y"), 204);
}

#[test]
fn a_file_with_a_location_of_its_own_is_no_destination() {
    let setup = World::setup().location("/data/", METHODS).location("= /data/config", ADMINS);
    let Some(world) = files(setup, &["data/config", "data/mine", "data/folder/x"]) else { return };
    let (token, admin) = (world.pki(&Payload::v3()), world.pki(&Payload::v3().roles(&["admin"])));
    // nginx writes to the path without its slash, and removes the file for a directory.
    for (from, to) in [
        ("/data/mine", "/data/config"),
        ("/data/mine", "/data/config/?x"),
        ("/data/mine", "/data/config%2F"),
        ("/data/mine", "/data/x/../config%2F"),
        ("/data/folder/", "/data/config/"),
        ("/data/folder/", "/data/config?/"),
    ] {
        for method in ["COPY", "MOVE"] {
            let status = send(&world, &token, method, from, to);
            assert_eq!(status, 403, "{method} {from} to {to}");
        }
        assert_eq!(text(&world, "data/config").as_deref(), Some("data/config"));
    }
    assert_eq!(send(&world, &token, "COPY", "/data/folder/", "/data/other/"), 201);
    assert_eq!(text(&world, "data/other/x").as_deref(), Some("data/folder/x"));
    assert_eq!(send(&world, &admin, "DELETE", "/data/config", ""), 204);
}

#[test]
fn deleting_containers_does_not_open_other_directories() {
    let setup = World::setup()
        .config(|config| config.http("keystone_swift_delete_containers on;"))
        .location("/shared/", METHODS)
        .location("/shared/folder/deeper/", ADMINS);
    let Some(world) = files(setup, &["shared/folder/deeper/x", "shared/free/x"]) else { return };
    let token = world.pki(&Payload::v3());
    for path in ["/shared/", "/shared/folder/"] {
        assert_eq!(send(&world, &token, "DELETE", path, ""), 403, "{path}");
    }
    assert!(text(&world, "shared/folder/deeper/x").is_some());
    assert_eq!(send(&world, &token, "DELETE", "/shared/free/", ""), 204);
}

#[test]
fn a_directory_that_try_files_finds_is_one_as_a_whole() {
    let setup = World::setup()
        .location("/", &format!("{METHODS} try_files $uri $uri// =404;"))
        .location("/data/x/", ADMINS);
    let Some(world) = files(setup, &["data/x/file", "free/from/file"]) else { return };
    let token = world.pki(&Payload::v3());
    assert_eq!(send(&world, &token, "DELETE", "/data", ""), 403);
    assert_eq!(send(&world, &token, "COPY", "/data", "/stolen/"), 403);
    assert_eq!(send(&world, &token, "MOVE", "/free", "/data/"), 403);
    assert!(text(&world, "data/x/file").is_some() && text(&world, "stolen/x/file").is_none());
    assert_eq!(send(&world, &token, "COPY", "/free/from", "/free/to/"), 201);
    assert_eq!(send(&world, &token, "DELETE", "/free/from", ""), 204);
    assert!(text(&world, "free/from/file").is_none() && text(&world, "free/to/file").is_some());
    // With a slash it is one from the beginning.
    assert_eq!(send(&world, &token, "DELETE", "/free/to/", ""), 204);
    assert_eq!(send(&world, &token, "DELETE", "/data/", ""), 403);
}

#[test]
fn a_directory_that_try_files_finds_is_another_path_to_access_rules() {
    let location =
        format!("{METHODS} keystone_service_type object-store; try_files $uri $uri// =404;");
    let setup = World::setup().location("/", &location);
    let Some(world) = files(setup, &["data/file", "free/file"]) else { return };
    let rule = |path: &str| json!({"id": "1", "service": "object-store", "method": "DELETE", "path": path});
    let rules = json!([rule("/data"), rule("/free/file")]);
    let token = world.pki(&Payload::v3().access_rules(rules));
    for directory in ["/data", "/data/"] {
        assert_eq!(send(&world, &token, "DELETE", directory, ""), 401);
    }
    assert_eq!(text(&world, "data/file").as_deref(), Some("data/file"));
    assert_eq!(send(&world, &token, "DELETE", "/free/file", ""), 204);
}

#[test]
fn where_slashes_are_not_merged_a_directory_with_two_is_no_part_of_a_location() {
    let setup = World::setup()
        .config(|config| config.http("merge_slashes off;"))
        .location("/data/", METHODS)
        .location("/data/kept/", ADMINS);
    let Some(world) = files(setup, &["data/kept/x", "data/free/x"]) else { return };
    let token = world.pki(&Payload::v3());
    assert_eq!(send(&world, &token, "DELETE", "/data//kept/", ""), 403);
    assert_eq!(send(&world, &token, "MOVE", "/data//kept/", "/data/mine/"), 403);
    assert!(text(&world, "data/kept/x").is_some());
    assert_eq!(send(&world, &token, "DELETE", "/data/free/", ""), 204);
}

#[test]
fn a_part_of_an_account_may_have_a_location_of_its_own() {
    let accounts =
        format!("keystone_swift_auth on; keystone_swift_operator_roles role1; {METHODS}");
    let setup = World::setup()
        .location("~ ^/v1/", &accounts)
        .location("^~ /v1/AUTH_tenant_id1/c/kept/", &format!("{ADMINS} keystone_swift_auth on;"));
    let paths = &["v1/AUTH_tenant_id1/c/kept/x", "v1/AUTH_tenant_id1/c/free/x"];
    let Some(world) = files(setup, paths) else { return };
    let token = world.pki(&Payload::v3());
    for path in ["/v1/AUTH_tenant_id1/c/", "/v1/AUTH_tenant_id1/"] {
        assert_eq!(send(&world, &token, "DELETE", path, ""), 403, "{path}");
    }
    assert!(text(&world, "v1/AUTH_tenant_id1/c/kept/x").is_some());
    assert_eq!(send(&world, &token, "DELETE", "/v1/AUTH_tenant_id1/c/free/", ""), 204);
}

#[test]
fn a_directory_of_an_account_may_have_a_location_that_its_files_have_not() {
    let accounts =
        format!("keystone_swift_auth on; keystone_swift_operator_roles role1; {METHODS}");
    let setup = World::setup()
        .location("= /v1/AUTH_tenant_id1/c/", &accounts)
        .location("/v1/", &format!("{accounts} keystone_require_role admin;"));
    let Some(world) = files(setup, &["v1/AUTH_tenant_id1/c/x"]) else { return };
    let token = world.pki(&Payload::v3());
    assert_eq!(send(&world, &token, "DELETE", "/v1/AUTH_tenant_id1/c/", ""), 403);
    assert!(text(&world, "v1/AUTH_tenant_id1/c/x").is_some());
}

#[test]
fn paths_of_proxied_requests_are_their_upstreams_matter() {
    // A matching `if` has a configuration of its own, and the handler of the location.
    let with_if = "keystone_auth on; if ($arg_x) { set $y 1; } proxy_pass @UPSTREAM@;";
    let accounts = "keystone_swift_auth on; keystone_swift_operator_roles role1;";
    let world = World::setup()
        .offline()
        .location("~ [.]css$", "return 200;")
        .location("/api/", with_if)
        .location("/v1/", &format!("{accounts} {with_if}"))
        .location(
            "/v1/AUTH_tenant_id1/led/",
            &format!("{accounts} keystone_auth on; try_files /.none @app;"),
        )
        .location("/", "keystone_auth on; try_files /.none @app;")
        .location("@app", "keystone_auth off; proxy_pass @UPSTREAM@;")
        .start();
    let token = world.pki(&Payload::v3());
    for folder in
        ["/api/d/", "/things/5/", "/v1/AUTH_tenant_id1/c/d/", "/v1/AUTH_tenant_id1/led/d/"]
    {
        for query in ["", "?x=1"] {
            let from = format!("{folder}{query}");
            assert_eq!(send(&world, &token, "DELETE", &from, ""), 200, "{from}");
            let from = format!("{folder}x{query}");
            for method in ["COPY", "MOVE"] {
                let status = send(&world, &token, method, &from, "/elsewhere/x");
                assert_eq!(status, 200, "{method} {from}");
            }
        }
    }
}

#[test]
fn a_location_that_another_leads_to_uses_only_what_that_one_may() {
    let swift = "keystone_auth on; keystone_swift_auth on; keystone_swift_operator_roles role1;";
    let leads = "keystone_auth on; try_files /.none @dav;";
    let dav = "keystone_auth off; dav_methods DELETE COPY MOVE;";
    let setup = World::setup()
        .location("/data/", leads)
        .location("/data/kept/", ADMINS)
        .location("/v1/", &format!("{swift} try_files /.none @dav;"))
        .location("/path/", "keystone_auth on; try_files /.none /data/kept/x/;")
        .location("@dav", dav);
    let paths = &[
        "data/x",
        "data/kept/x",
        "data/free/x",
        "v1/AUTH_tenant_id1/c/x",
        "v1/AUTH_tenant_id1/c/d/x",
    ];
    let Some(world) = files(setup, paths) else { return };
    let token = world.pki(&Payload::v3());
    for (method, from, to, status) in [
        ("COPY", "/data/x", "/data/kept/y", 403),
        ("MOVE", "/data/x", "/other/y", 403),
        ("COPY", "/data/x", "/data/y", 204),
        ("DELETE", "/data/", "", 403),
        ("DELETE", "/path/", "", 403),
        ("COPY", "/v1/AUTH_tenant_id1/c/x", "/v1/AUTH_tenant_id1/c/y", 403),
        ("DELETE", "/v1/AUTH_tenant_id1/c/d/", "", 204),
        ("DELETE", "/data/free/", "", 204),
    ] {
        assert_eq!(send(&world, &token, method, from, to), status, "{method} {from} to {to}");
    }
    assert!(text(&world, "data/kept/x").is_some());
}

#[test]
fn accounts_of_a_regular_expression_are_the_same_with_limits_of_methods() {
    let accounts = format!(
        "keystone_swift_auth on; keystone_swift_operator_roles role1; {METHODS}
         limit_except GET PUT {{ keystone_require_role role2; }}"
    );
    let setup = World::setup().location("~ ^/v1/", &accounts);
    let Some(world) = files(setup, &["v1/AUTH_tenant_id1/c/d/x"]) else { return };
    let token = world.pki(&Payload::v3());
    assert_eq!(send(&world, &token, "DELETE", "/v1/AUTH_tenant_id1/c/d/", ""), 204);
}

#[test]
fn a_destination_may_have_any_name_that_a_file_has() {
    let Some(world) = files(World::setup().location("/data/", METHODS), &["data/x"]) else {
        return;
    };
    let token = world.pki(&Payload::v3());
    for (to, name) in [
        ("/data/Smith%3B%20John.pdf", "data/Smith; John.pdf"),
        ("/data/a;b\\c", "data/a;b\\c"),
        ("/data/%2541", "data/%41"),
    ] {
        assert_eq!(send(&world, &token, "COPY", "/data/x", to), 204, "{to}");
        assert_eq!(text(&world, name).as_deref(), Some("data/x"), "{to}");
    }
}
