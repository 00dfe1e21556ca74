//! Each of Debian's modules at its own work, in locations that are protected.

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::memcached::Memcached;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::{can_load_debians_modules, Order};
use keystone_testbed::upstream::Seen;
use keystone_testbed::world::{Setup, World};

fn setup(order: Order, modules: &[&str]) -> Setup {
    World::setup().config(|config| config.beside(order, modules))
}

/// Runs a test with the neighbours loaded after the module, and before it.
fn in_both_orders(test: impl Fn(Order)) {
    if can_load_debians_modules() {
        Order::BOTH.into_iter().for_each(test);
    }
}

#[test]
fn lua_reads_and_changes_the_identity() {
    in_both_orders(|order| {
        let world = setup(order, &["ndk", "lua"])
            .location(
                "/reads/",
                "keystone_auth on;
                 access_by_lua_block { ngx.ctx.user = ngx.var.keystone_user_id }
                 header_filter_by_lua_block { ngx.header['X-Lua-User'] = ngx.ctx.user }
                 log_by_lua_block { ngx.log(ngx.WARN, 'logged: ', ngx.var.keystone_user_id) }
                 content_by_lua_block {
                     local headers = ngx.req.get_headers()
                     ngx.say(headers['X-User-Id'], ' ', headers.x_roles, ' ',
                         ngx.var.http_x_project_id, ' ', headers['X-Domain-Id'])
                 }",
            )
            .location(
                "/changes/",
                "keystone_auth on;
                 access_by_lua_block {
                     ngx.req.set_header('X-User-Name', 'lua')
                     ngx.req.clear_header('X-Roles')
                     ngx.req.clear_header('X-Role')
                     ngx.req.set_header('X-More', ngx.var.keystone_project_id)
                 }
                 proxy_pass @UPSTREAM@;",
            )
            .location(
                "/decides/",
                "keystone_auth on;
                 access_by_lua_block {
                     if ngx.var.keystone_user_name ~= 'user_name1' then ngx.exit(403) end
                 }
                 proxy_pass @UPSTREAM@;",
            )
            .start();
        let token = world.uuid(&Payload::v3());
        let forged = |target: &str| Request::get(target).header("X-Domain-Id", "evil");
        let answer = world.send(&forged("/reads/").token(&token));
        assert_eq!(answer.text(), "user_id1 role1,role2 tenant_id1 nil\n", "{order:?}");
        assert_eq!(answer.header("X-Lua-User"), Some("user_id1"));
        world.nginx.wait_for_log("logged: user_id1").unwrap();
        expect::refused(&world.send(&forged("/reads/")));

        let seen = world.seen(&forged("/changes/").token(&token));
        assert_eq!(seen.header("X-User-Name").as_deref(), Some("lua"));
        assert_eq!(seen.header("X-User-Id").as_deref(), Some("user_id1"));
        assert_eq!(seen.header("X-More").as_deref(), Some("tenant_id1"));
        for removed in ["X-Roles", "X-Role", "X-Domain-Id"] {
            assert_eq!(seen.header(removed), None, "{order:?} {removed}");
        }

        let other = world.uuid(&Payload::v3().user("user_id2", "user_name2"));
        assert_eq!(world.send(&Request::get("/decides/").token(&token)).status, 200);
        assert_eq!(world.send(&Request::get("/decides/").token(&other)).status, 403);
        expect::refused(&world.send(&Request::get("/decides/")));
        world.assert_quiet_log();
    });
}

#[test]
fn headers_more_sets_and_clears_headers_around_the_identity() {
    in_both_orders(|order| {
        let world = setup(order, &["headers_more_filter"])
            .location(
                "/input/",
                "keystone_auth on; more_set_input_headers 'X-Mine: 1';
                 more_clear_input_headers X-Theirs; proxy_pass @UPSTREAM@;",
            )
            .location(
                "/output/",
                "keystone_auth on; more_set_headers 'X-Set: $keystone_user_id';
                 more_clear_headers WWW-Authenticate; proxy_pass @UPSTREAM@;",
            )
            .start();
        let token = world.uuid(&Payload::v3());
        let request = Request::get("/input/").header("X-Theirs", "1").header("X-Roles", "admin");
        let seen = world.seen(&request.header("X-Mine", "2").token(&token));
        expect::v3_user(&seen);
        assert_eq!(seen.header("X-Mine").as_deref(), Some("1"), "{order:?}");
        assert_eq!(seen.header("X-Theirs"), None, "{order:?}");

        let answer = world.send(&Request::get("/output/").token(&token));
        assert_eq!(answer.header("X-Set"), Some("user_id1"), "{order:?}");
        let answer = world.send(&Request::get("/output/"));
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("WWW-Authenticate"), None, "{order:?}");
        assert_eq!(answer.json().unwrap()["error"]["code"], 401);
    });
}

#[test]
fn perl_reads_the_identity() {
    in_both_orders(|order| {
        let world = setup(order, &["perl"])
            .config(|config| {
                config.http(
                    "perl_set $perl_user 'sub { return shift->variable(\"keystone_user_id\"); }';",
                )
            })
            .location(
                "/perl/",
                "keystone_auth on; add_header X-Perl-User $perl_user;
                 perl 'sub {
                     my $r = shift;
                     $r->send_http_header(\"text/plain\");
                     for my $name (\"X-User-Id\", \"X-Roles\", \"X-Identity-Status\", \"X-Domain-Id\") {
                         $r->print($r->header_in($name) // \"none\", \" \");
                     }
                     return 0;
                 }';",
            )
            .start();
        let token = world.uuid(&Payload::v3());
        let forged = Request::get("/perl/").header("X-Domain-Id", "evil");
        let answer = world.send(&forged.clone().token(&token));
        assert_eq!(answer.text(), "user_id1 role1,role2 Confirmed none ", "{order:?}");
        assert_eq!(answer.header("X-Perl-User"), Some("user_id1"));
        expect::refused(&world.send(&forged));
        world.assert_quiet_log();
    });
}

#[test]
fn njs_reads_the_identity() {
    const SCRIPT: &str = "
        function who(r) {
            const names = ['X-User-Id', 'X-Roles', 'X-Domain-Id'];
            const headers = names.map(name => String(r.headersIn[name])).join(' ');
            r.return(200, headers + ' ' + r.variables.keystone_user_id);
        }
        export default {who};";
    in_both_orders(|order| {
        let world = setup(order, &["js"])
            .config(|config| config.http("js_import main from @DIR@/main.js;"))
            .location("/njs/", "keystone_auth on; js_content main.who;")
            .files(|dir| std::fs::write(dir.join("main.js"), SCRIPT).unwrap())
            .start();
        let token = world.uuid(&Payload::v3());
        let forged = Request::get("/njs/").header("X-Domain-Id", "evil");
        let answer = world.send(&forged.clone().token(&token));
        assert_eq!(answer.text(), "user_id1 role1,role2 undefined user_id1", "{order:?}");
        expect::refused(&world.send(&forged));
        world.assert_quiet_log();
    });
}

#[test]
fn echo_shows_the_identity() {
    in_both_orders(|order| {
        let world = setup(order, &["echo"])
            .location(
                "/echo/",
                "keystone_auth on; echo $keystone_user_id; echo $http_x_roles;
                 echo_sleep 0.01; echo [$http_x_domain_id];",
            )
            .start();
        let token = world.uuid(&Payload::v3());
        let forged = Request::get("/echo/").header("X-Domain-Id", "evil");
        let answer = world.send(&forged.clone().token(&token));
        assert_eq!(answer.text(), "user_id1\nrole1,role2\n[]\n", "{order:?}");
        expect::refused(&world.send(&forged));
        world.assert_quiet_log();
    });
}

#[test]
fn modsecurity_reads_bodies_and_denies() {
    in_both_orders(|order| {
        let world = setup(order, &["modsecurity"])
            .config(|config| {
                config.http("client_body_buffer_size 512k;").http(
                    "modsecurity on;
                     modsecurity_rules '
                         SecRuleEngine On
                         SecRequestBodyAccess On
                         SecRule ARGS:x \"@streq evil\" \"id:1,phase:1,deny,status:418\"
                         SecRule REQUEST_BODY \"@contains attack\" \"id:2,phase:2,deny,status:419\"
                         SecRule RESPONSE_HEADERS:X-Bad \"@streq 1\" \"id:3,phase:3,deny,status:420\"
                     ';",
                )
            })
            .start();
        let token = world.uuid(&Payload::v3());
        let get = |target: &str| Request::get(target).token(&token);
        expect::v3_user(&world.seen(&get("/?x=good")));
        assert_eq!(world.send(&get("/?x=evil")).status, 418, "{order:?}");
        assert_eq!(world.send(&get("/?h=X-Bad:1")).status, 420, "{order:?}");
        expect::refused(&world.send(&Request::get("/?x=good")));

        // The body is read before the request waits for the identity service.
        let post = |body: &[u8]| {
            let token = world.uuid(&Payload::v3());
            let form = ("Content-Type", "application/x-www-form-urlencoded");
            world.send(&Request::new("POST", "/").header(form.0, form.1).token(&token).body(body))
        };
        let body = [b"a=".as_slice(), &[b'b'; 100_000]].concat();
        assert_eq!(post(&body).status, 200, "{order:?}");
        assert_eq!(world.upstream.requests().last().unwrap().body, body);
        assert_eq!(post(b"a=attack").status, 419, "{order:?}");
        let request = Request::new("POST", "/").body(&body);
        expect::refused(&world.send(&request));
        world.assert_quiet_log();
    });
}

#[test]
fn geoip_is_a_requirement() {
    in_both_orders(|order| {
        let world = setup(order, &["geoip"])
            .config(|config| {
                config.http(
                    "geoip_country /usr/share/GeoIP/GeoIP.dat; geoip_proxy 127.0.0.0/8;
                     map $geoip_country_code $is_welcome { US 1; }",
                )
            })
            .location("/", "keystone_auth on; keystone_require $is_welcome; proxy_pass @UPSTREAM@;")
            .start();
        let token = world.uuid(&Payload::v3());
        let from = |address: &str| Request::get("/").header("X-Forwarded-For", address);
        expect::v3_user(&world.seen(&from("8.8.8.8").token(&token)));
        expect::forbidden(&world.send(&from("127.0.0.1").token(&token)));
        expect::refused(&world.send(&from("8.8.8.8")));
        world.assert_quiet_log();
    });
}

#[test]
fn image_filter_works_on_what_is_protected() {
    in_both_orders(|order| {
        let world = setup(order, &["image_filter"])
            .location("/image/", "keystone_auth on; image_filter size; alias @DIR@/html/;")
            .location(
                "/basic/",
                "auth_basic realm; auth_basic_user_file @DIR@/users; image_filter size;
                 alias @DIR@/html/;",
            )
            .files(|dir| {
                std::fs::write(dir.join("html/dot.gif"), DOT).unwrap();
                std::fs::write(dir.join("users"), "").unwrap();
            })
            .start();
        let token = world.uuid(&Payload::v3());
        let answer = world.send(&Request::get("/image/dot.gif").token(&token));
        assert_eq!(answer.json().unwrap()["img"]["type"], "gif", "{order:?}");
        // Whatever image_filter makes of a refusal's body, it makes of ours what it makes of
        // nginx's.
        let refused = world.send(&Request::get("/image/dot.gif"));
        let basic = world.send(&Request::get("/basic/dot.gif"));
        assert_eq!(refused.status, basic.status, "{order:?}");
        assert!(!refused.text().contains("gif"), "{}", refused.text());
        world.assert_quiet_log();
    });
}

#[test]
fn srcache_keeps_what_each_user_is_shown_apart() {
    in_both_orders(|order| {
        let memcached = Memcached::start().unwrap();
        let memc = format!(
            "internal; keystone_auth off; set $memc_key $query_string; set $memc_exptime 60;
             memc_pass {};",
            memcached.server()
        );
        let world = setup(order, &["memc", "srcache_filter"])
            .location("/memc", &memc)
            .location(
                "/",
                "keystone_auth on;
                 srcache_fetch GET /memc $keystone_user_id$uri;
                 srcache_store PUT /memc $keystone_user_id$uri;
                 proxy_pass @UPSTREAM@;",
            )
            .start();
        let first = world.uuid(&Payload::v3());
        let second = world.uuid(&Payload::v3().user("user_id2", "user_name2"));
        for _ in 0..3 {
            for (token, user) in [(&first, "user_id1"), (&second, "user_id2")] {
                let answer = world.send(&Request::get("/page").token(token));
                let seen = Seen::of(&answer).unwrap();
                assert_eq!(seen.header("X-User-Id").as_deref(), Some(user), "{order:?}");
            }
            expect::refused(&world.send(&Request::get("/page")));
        }
        assert_eq!(world.upstream.requests().len(), 2, "{order:?}");
        world.assert_quiet_log();
    });
}

/// A GIF of one pixel.
const DOT: &[u8] =
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00\x2c\x00\x00\x00\x00\
    \x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b";
