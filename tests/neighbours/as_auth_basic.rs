//! Whatever other modules do with a request, `keystone_auth on` allows it where `auth_basic` in the
//! same place would.
//!
//! Each case is in one configuration twice: below `/basic`, protected by nginx's own `auth_basic`,
//! and below `/keystone`. Both get the same requests.

use std::path::Path;

use keystone_testbed::http::{Request, Response};
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::nginx::{can_load_debians_modules, Order};
use keystone_testbed::world::{Setup, World};

/// One use of other modules. `@P@` stands for `/basic` or `/keystone`, `@AUTH@` for the directives
/// that protect a location, and the word `secret` for what is protected.
struct Case {
    name: &'static str,
    /// Locations below `@P@/NAME`, without that prefix, and named ones, whose names begin with
    /// `@N@`.
    locations: &'static [(&'static str, &'static str)],
    /// The method of the request to `@P@/NAME/`.
    method: &'static str,
    /// The status without credentials, or with wrong ones.
    refused: u16,
    /// The status with the right ones.
    granted: u16,
    /// Whether what is protected is shown to everybody.
    is_open: bool,
}

/// Where a case says nothing else.
const CASE: Case =
    Case { name: "", locations: &[], method: "GET", refused: 401, granted: 200, is_open: false };

const CASES: &[Case] = &[
    // Code that runs in the location itself.
    Case {
        name: "lua-access-exit",
        locations: &[("/", "@AUTH@ access_by_lua_block { ngx.exit(ngx.OK) } @SECRET@")],
        ..CASE
    },
    Case {
        name: "lua-access",
        locations: &[("/", "@AUTH@ access_by_lua_block { local nothing } @SECRET@")],
        ..CASE
    },
    Case {
        name: "lua-access-sleep",
        locations: &[("/", "@AUTH@ access_by_lua_block { ngx.sleep(0.001) } @SECRET@")],
        ..CASE
    },
    Case {
        name: "lua-rewrite-exit",
        locations: &[("/", "@AUTH@ rewrite_by_lua_block { ngx.exit(ngx.OK) } @SECRET@")],
        ..CASE
    },
    Case {
        name: "lua-rewrite-sleep",
        locations: &[("/", "@AUTH@ rewrite_by_lua_block { ngx.sleep(0.001) } @SECRET@")],
        ..CASE
    },
    Case {
        name: "lua-content",
        locations: &[("/", "@AUTH@ content_by_lua_block { ngx.say('secret') }")],
        ..CASE
    },
    Case {
        name: "lua-body-filter",
        locations: &[(
            "/",
            "@AUTH@ header_filter_by_lua_block { ngx.header.content_length = nil }
             body_filter_by_lua_block { ngx.arg[1] = string.upper(ngx.arg[1] or '') } @SECRET@",
        )],
        ..CASE
    },
    Case { name: "echo", locations: &[("/", "@AUTH@ echo secret;")], ..CASE },
    Case { name: "njs", locations: &[("/", "@AUTH@ js_content main.secret;")], ..CASE },
    Case {
        name: "perl",
        locations: &[("/", "@AUTH@ perl 'sub { my $r = shift; $r->send_http_header(\"text/plain\"); $r->print(\"secret\"); return 0; }';")],
        ..CASE
    },
    Case {
        name: "modsecurity",
        locations: &[(
            "/",
            "@AUTH@ modsecurity on; modsecurity_rules 'SecRuleEngine On
             SecRequestBodyAccess On'; @SECRET@",
        )],
        ..CASE
    },
    Case {
        name: "srcache",
        locations: &[
            ("/", "@AUTH@ srcache_fetch GET @P@/srcache/stored; try_files /nothing =404;"),
            ("/stored", "internal; try_files /stored.txt =404;"),
        ],
        ..CASE
    },
    Case {
        name: "dav-secret",
        locations: &[("/", "@AUTH@ dav_methods PUT; dav_ext_methods PROPFIND; alias @DIR@/html/dav/;")],
        method: "PROPFIND",
        granted: 207,
        ..CASE
    },
    // Code that leads elsewhere.
    Case {
        name: "lua-content-exec",
        locations: &[
            ("/", "content_by_lua_block { ngx.exec('@P@/lua-content-exec/in/') }"),
            ("/in/", "@AUTH@ @SECRET@"),
        ],
        ..CASE
    },
    Case {
        name: "lua-access-exec",
        locations: &[
            ("/", "access_by_lua_block { ngx.exec('@P@/lua-access-exec/in/') }"),
            ("/in/", "@AUTH@ @SECRET@"),
        ],
        ..CASE
    },
    Case {
        name: "lua-rewrite-exec",
        locations: &[
            ("/", "rewrite_by_lua_block { ngx.exec('@P@/lua-rewrite-exec/in/') }"),
            ("/in/", "@AUTH@ @SECRET@"),
        ],
        ..CASE
    },
    Case {
        name: "lua-exec-named",
        locations: &[
            ("/", "content_by_lua_block { ngx.exec('@N@-lua-exec-named') }"),
            ("@N@-lua-exec-named", "@AUTH@ @SECRET@"),
        ],
        ..CASE
    },
    Case {
        name: "lua-exec-both",
        locations: &[
            ("/", "@AUTH@ access_by_lua_block { ngx.exec('@P@/lua-exec-both/in/') }"),
            ("/in/", "@AUTH@ @SECRET@"),
        ],
        ..CASE
    },
    Case {
        name: "lua-set-uri",
        locations: &[
            ("/", "rewrite_by_lua_block { ngx.req.set_uri('@P@/lua-set-uri/in/', true) }"),
            ("/in/", "@AUTH@ @SECRET@"),
        ],
        ..CASE
    },
    Case {
        name: "echo-exec",
        locations: &[
            ("/", "echo_exec @P@/echo-exec/in/;"),
            ("/in/", "@AUTH@ @SECRET@"),
        ],
        ..CASE
    },
    Case {
        name: "njs-redirect",
        locations: &[
            ("/", "set $to @P@/njs-redirect/in/; js_content main.redirect;"),
            ("/in/", "@AUTH@ @SECRET@"),
        ],
        ..CASE
    },
    Case {
        name: "perl-redirect",
        locations: &[
            ("/", "perl 'sub { my $r = shift; $r->internal_redirect(\"@P@/perl-redirect/in/\"); return 0; }';"),
            ("/in/", "@AUTH@ @SECRET@"),
        ],
        ..CASE
    },
    Case {
        name: "accel-redirect",
        locations: &[
            ("/", "proxy_pass @UPSTREAM@/?h=X-Accel-Redirect:@P@/accel-redirect/in/;"),
            ("/in/", "internal; @AUTH@ @SECRET@"),
        ],
        ..CASE
    },
    Case {
        name: "accel-redirect-named",
        locations: &[
            ("/", "proxy_pass @UPSTREAM@/?h=X-Accel-Redirect:@N@-accel;"),
            ("@N@-accel", "@AUTH@ @SECRET@"),
        ],
        ..CASE
    },
    Case {
        name: "error-page",
        locations: &[
            ("/", "error_page 404 = @P@/error-page/in/; try_files /nothing =404;"),
            ("/in/", "@AUTH@ @SECRET@"),
        ],
        ..CASE
    },
    Case {
        name: "try-files",
        locations: &[
            ("/", "try_files /nothing @P@/try-files/in/;"),
            ("/in/", "@AUTH@ @SECRET@"),
        ],
        ..CASE
    },
    Case {
        name: "try-files-named",
        locations: &[("/", "try_files /nothing @N@-try;"), ("@N@-try", "@AUTH@ @SECRET@")],
        ..CASE
    },
    Case {
        name: "refusal-elsewhere",
        locations: &[
            ("/", "@AUTH@ error_page 401 = @P@/refusal-elsewhere/out/; @SECRET@"),
            ("/out/", "try_files /public.txt =404;"),
        ],
        refused: 200,
        ..CASE
    },
    Case {
        name: "mirror",
        locations: &[
            ("/", "@AUTH@ mirror @P@/mirror/copy; @SECRET@"),
            ("/copy", "internal; return 204;"),
        ],
        ..CASE
    },
    // Together with other modules of the access phase.
    Case {
        name: "any-lua-exit",
        locations: &[("/", "satisfy any; @AUTH@ access_by_lua_block { ngx.exit(ngx.OK) } @SECRET@")],
        refused: 200,
        is_open: true,
        ..CASE
    },
    Case {
        name: "any-lua-forbids",
        locations: &[("/", "satisfy any; @AUTH@ access_by_lua_block { ngx.exit(403) } @SECRET@")],
        refused: 401,
        ..CASE
    },
    Case {
        name: "any-auth-request",
        locations: &[
            ("/", "satisfy any; @AUTH@ auth_request @P@/any-auth-request/ask; @SECRET@"),
            ("/ask", "internal; return 204;"),
        ],
        refused: 200,
        is_open: true,
        ..CASE
    },
    Case {
        name: "any-auth-request-refuses",
        locations: &[
            ("/", "satisfy any; @AUTH@ auth_request @P@/any-auth-request-refuses/ask; @SECRET@"),
            ("/ask", "internal; return 401;"),
        ],
        ..CASE
    },
    Case {
        name: "all-auth-request",
        locations: &[
            ("/", "@AUTH@ auth_request @P@/all-auth-request/ask; @SECRET@"),
            ("/ask", "internal; return 204;"),
        ],
        ..CASE
    },
    Case {
        name: "any-allow",
        locations: &[("/", "satisfy any; allow all; @AUTH@ @SECRET@")],
        refused: 200,
        is_open: true,
        ..CASE
    },
    Case {
        name: "any-deny",
        locations: &[("/", "satisfy any; deny all; @AUTH@ @SECRET@")],
        ..CASE
    },
    // Subrequests are not asked by any access module.
    Case {
        name: "lua-capture",
        locations: &[
            (
                "/",
                "content_by_lua_block { ngx.print(ngx.location.capture('@P@/lua-capture/in/').body) }",
            ),
            ("/in/", "@AUTH@ @SECRET@"),
        ],
        refused: 200,
        is_open: true,
        ..CASE
    },
    Case {
        name: "echo-location",
        locations: &[
            ("/", "echo_location @P@/echo-location/in/;"),
            ("/in/", "@AUTH@ @SECRET@"),
        ],
        refused: 200,
        is_open: true,
        ..CASE
    },
    Case {
        name: "njs-subrequest",
        locations: &[
            ("/", "set $to @P@/njs-subrequest/in/; js_content main.subrequest;"),
            ("/in/", "@AUTH@ @SECRET@"),
        ],
        refused: 200,
        is_open: true,
        ..CASE
    },
    Case {
        name: "ssi",
        locations: &[
            ("/", "set $to @P@/ssi/in/; ssi on; ssi_types text/plain; try_files /include.txt =404;"),
            ("/in/", "@AUTH@ @SECRET@"),
        ],
        refused: 200,
        is_open: true,
        ..CASE
    },
    Case {
        name: "addition",
        locations: &[
            (
                "/",
                "add_after_body @P@/addition/in/; addition_types text/plain;
                 try_files /public.txt =404;",
            ),
            ("/in/", "@AUTH@ @SECRET@"),
        ],
        refused: 200,
        is_open: true,
        ..CASE
    },
    Case {
        name: "auth-request-of-a-protected-location",
        locations: &[
            ("/", "auth_request @P@/auth-request-of-a-protected-location/in/; @SECRET@"),
            ("/in/", "@AUTH@ try_files /public.txt =404;"),
        ],
        refused: 200,
        is_open: true,
        ..CASE
    },
];

/// nginx's own module, and ours: a prefix, and the directives that protect a location.
const GATES: [(&str, &str); 2] = [
    ("/basic", "auth_basic realm; auth_basic_user_file @DIR@/users; keystone_auth off;"),
    ("/keystone", "keystone_auth on;"),
];

const MODULES: [&str; 8] =
    ["ndk", "lua", "echo", "js", "perl", "modsecurity", "srcache_filter", "dav_ext"];

const SECRET: &str = "try_files /secret.txt =404;";

const NJS: &str = "
function secret(r) { r.return(200, 'secret'); }
function redirect(r) { r.internalRedirect(r.variables.to); }
function subrequest(r) {
    r.subrequest(r.variables.to, reply => r.return(200, reply.responseText));
}
export default {secret, redirect, subrequest};
";

/// lua's handlers stay where they are, instead of being moved to the end of their phase.
const NO_POSTPONE: &str = "rewrite_by_lua_no_postpone on; access_by_lua_no_postpone on;";

fn with_cases(mut setup: Setup) -> Setup {
    for (prefix, auth) in GATES {
        let name = prefix.trim_start_matches('/');
        let fill = |text: &str| {
            text.replace("@AUTH@", auth)
                .replace("@SECRET@", SECRET)
                .replace("@P@", prefix)
                .replace("@N@", &format!("@{name}"))
        };
        for case in CASES {
            for (location, lines) in case.locations {
                let location = match location.starts_with('@') {
                    true => fill(location),
                    false => format!("{prefix}/{}{location}", case.name),
                };
                setup = setup.location(&location, &fill(lines));
            }
        }
    }
    setup
}

fn world(order: Order, http: &str) -> World {
    let setup = World::setup().config(|config| {
        config.beside(order, &MODULES).http("js_import main from @DIR@/main.js;").http(http)
    });
    let write_files = |dir: &Path| {
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
        write("users", "me:{PLAIN}secret\n");
        write("main.js", NJS);
        write("html/secret.txt", "secret\n");
        write("html/public.txt", "public\n");
        write("html/include.txt", "<!--#include virtual=\"$to\" -->");
        write("html/stored.txt", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret");
        std::fs::create_dir(dir.join("html/dav")).unwrap();
        write("html/dav/file", "x");
    };
    with_cases(setup).files(write_files).start()
}

fn is_shown(answer: &Response) -> bool {
    answer.text().to_lowercase().contains("secret")
}

fn check(world: &World, case: &Case, order: Order) {
    let token = world.uuid(&Payload::v3());
    for (prefix, _) in GATES {
        let target = format!("{prefix}/{}/", case.name);
        let request = || Request::new(case.method, &target);
        let what = format!("{target} {order:?}");
        let wrong = request().header("Authorization", "Basic bWU6d3Jvbmc=").token(&new_uuid());
        for request in [request(), wrong] {
            let answer = world.send(&request);
            assert_eq!(answer.status, case.refused, "{what}: {}", answer.text());
            assert_eq!(is_shown(&answer), case.is_open, "{what}: {}", answer.text());
        }
        let right = request().header("Authorization", "Basic bWU6c2VjcmV0").token(&token);
        let answer = world.send(&right);
        assert_eq!(answer.status, case.granted, "{what}: {}", answer.text());
        assert!(is_shown(&answer), "{what}: {}", answer.text());
    }
}

fn check_all(http: &str) {
    if !can_load_debians_modules() {
        return;
    }
    for order in Order::BOTH {
        let world = world(order, http);
        for case in CASES {
            check(&world, case, order);
        }
        world.assert_quiet_log();
    }
}

#[test]
fn auth_basic_and_keystone_auth_allow_the_same_requests() {
    check_all("");
}

#[test]
fn they_do_so_where_lua_runs_before_the_access_modules() {
    check_all(NO_POSTPONE);
}
