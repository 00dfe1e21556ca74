//! A refusal of the module that another one overrules, with `satisfy any`.

use keystone_testbed::http::Request;
use keystone_testbed::nginx::{can_load_debians_modules, Order};
use keystone_testbed::world::World;

#[test]
fn an_upstreams_own_401_stays_as_it_is() {
    if !can_load_debians_modules() {
        return;
    }
    for order in Order::BOTH {
        let world = World::setup()
            .offline()
            .config(|config| config.beside(order, &["ndk", "lua"]))
            .location(
                "/any/",
                "satisfy any; keystone_auth on; proxy_buffering off; proxy_pass @UPSTREAM@;
                 access_by_lua_block { ngx.exit(ngx.OK) }",
            )
            .start();
        let long = "x".repeat(3_000);
        for body in ["hello", &long] {
            // Lua puts its handler behind all others with its first request.
            for _ in 0..3 {
                let target = format!("/any/status/401?body={body}&h=X-Own:yes");
                let answer = world.send(&Request::get(&target));
                assert_eq!((answer.status, answer.text().as_str()), (401, body), "{order:?}");
                assert_eq!(answer.header("X-Own"), Some("yes"), "{order:?}");
            }
        }
    }
}
