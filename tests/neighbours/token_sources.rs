//! A token that another module has set in the location that judges it.

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::{can_load_debians_modules, Order};
use keystone_testbed::world::World;

#[test]
fn what_another_module_has_set_in_the_location_counts() {
    if !can_load_debians_modules() {
        return;
    }
    for (order, forward) in Order::BOTH.into_iter().flat_map(|o| [(o, "on"), (o, "off")]) {
        let auth = format!("keystone_auth on; keystone_forward_token {forward};");
        let location = |lines: &str| format!("{auth} {lines} proxy_pass @UPSTREAM@;");
        let world = World::setup()
            .offline()
            .config(|config| config.beside(order, &["ndk", "lua", "headers_more_filter"]))
            .location(
                "/lua/",
                &location(
                    "rewrite_by_lua_block {
                         ngx.req.set_header('X-Auth-Token', ngx.var.arg_t)
                         ngx.req.set_header('X-Service-Token', ngx.var.arg_s)
                     }",
                ),
            )
            .location(
                "/waits/",
                &location(
                    "rewrite_by_lua_block {
                         ngx.sleep(0.001)
                         ngx.req.set_header('X-Auth-Token', ngx.var.arg_t)
                     }",
                ),
            )
            .location("/more/", &location("more_set_input_headers \"X-Auth-Token: $arg_t\";"))
            .location(
                "/clears/",
                &location("rewrite_by_lua_block { ngx.req.clear_header('X-Auth-Token') }"),
            )
            .location(
                "/variable/",
                &location(
                    "keystone_token $mine; set $mine '';
                     rewrite_by_lua_block { ngx.var.mine = ngx.var.arg_t }",
                ),
            )
            .start();
        let token = world.pki(&Payload::v3());
        let service = world.pki(&Payload::v3_service());
        let is_forwarded = forward == "on";
        for target in ["/lua/", "/waits/", "/more/", "/variable/"] {
            let what = format!("{order:?} {forward} {target}");
            let target = format!("{target}?t={token}");
            for request in [Request::get(&target), Request::get(&target).token("bad")] {
                let seen = world.seen(&request);
                assert_eq!(seen.header("X-User-Id").as_deref(), Some("user_id1"), "{what}");
                let forwarded = is_forwarded.then(|| token.clone());
                assert_eq!(seen.header("X-Auth-Token"), forwarded, "{what}");
            }
            // What the module judges is not what the client has sent.
            let bad = target.replace(&token, "bad");
            expect::refused(&world.send(&Request::get(&bad).token(&token)));
        }
        let seen = world.seen(&Request::get(&format!("/lua/?t={token}&s={service}")));
        let status = seen.header("X-Service-Identity-Status");
        assert_eq!(status.as_deref(), Some("Confirmed"), "{order:?} {forward}");
        expect::refused(&world.send(&Request::get("/clears/").token(&token)));
        world.assert_quiet_log();
    }
}
