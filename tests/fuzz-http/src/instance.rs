//! An nginx with all the servers of the configuration files, and what stands around it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use keystone_testbed::identity::{Identity, ADMIN_TOKEN};
use keystone_testbed::nginx::{was_built_with, worker_user, Config, Nginx};
use keystone_testbed::pki::TlsFiles;
use keystone_testbed::port::Port;
use keystone_testbed::temp::TempDir;
use keystone_testbed::world::make_signing_dir;
use keystone_testbed::{During, Result};

use crate::guard::Guard;
use crate::inspect::Inspector;
use crate::site::{self, Site};
use crate::upstream::{Upstream, Way};
use crate::wallet::Wallet;

/// What an instance is to be.
#[derive(Debug)]
pub struct Plan {
    /// The name in reports.
    pub name: &'static str,
    /// More directives of `http`.
    pub lines: &'static str,
    /// How late the identity service answers questions about tokens, in milliseconds.
    pub identity_delay: u64,
    /// Whether tokens are kept from the upstream.
    pub tokens_removed: bool,
    /// How many workers it has.
    pub workers: usize,
}

/// The instances: each has all servers.
pub const PLANS: [Plan; 4] = [
    Plan { name: "default", lines: "", identity_delay: 0, tokens_removed: false, workers: 1 },
    Plan {
        name: "lenient",
        lines: "ignore_invalid_headers off;
            underscores_in_headers on;
            merge_slashes off;
            keystone_include_service_catalog on;",
        identity_delay: 0,
        tokens_removed: false,
        workers: 1,
    },
    Plan {
        name: "tight",
        lines: "underscores_in_headers on;
            keystone_forward_token off;
            keystone_token $cookie_token $arg_token $keystone_bearer $http_x_auth_token
                $http_x_storage_token;
            client_header_buffer_size 256;
            large_client_header_buffers 4 8k;
            client_body_buffer_size 64;
            connection_pool_size 256;
            request_pool_size 256;
            postpone_output 0;
            reset_timedout_connection on;
            lingering_close always;
            keepalive_requests 3;",
        identity_delay: 0,
        tokens_removed: true,
        workers: 1,
    },
    Plan {
        name: "slow",
        lines: "keystone_early on;
            keystone_max_pending 8;
            keystone_token_cache_time 1s;
            keystone_invalid_cache_time off;
            keystone_revocation_cache_time 1s;
            large_client_header_buffers 4 64k;
            lingering_close off;",
        identity_delay: 40,
        tokens_removed: false,
        workers: 2,
    },
];

/// A running instance.
pub struct Instance {
    pub plan: &'static Plan,
    pub nginx: Nginx,
    /// Validates the tokens of the wallet.
    pub identity: Identity,
    /// One for each `server` block.
    pub sites: Vec<Site>,
    /// Who looks at what its upstreams are sent.
    pub inspector: Inspector,
    /// Whether it tells how many connections are open.
    pub counts_connections: bool,
    _upstreams: Vec<Upstream>,
    _ports: Vec<Port>,
}

impl Instance {
    /// Starts one; its identity service must know the tokens of the wallet already.
    pub fn start(
        plan: &'static Plan,
        identity: Identity,
        wallet: &Arc<Wallet>,
        tls: &TlsFiles,
    ) -> Result<Self> {
        let inspector = Inspector::new(Arc::clone(wallet), plan.tokens_removed);
        let dir = TempDir::new("fuzz-http")?;
        let counts_connections = was_built_with("--with-http_stub_status_module");
        let mut text = NGINX
            .replace("@USER@", &worker_user().map(|u| format!("user {u};")).unwrap_or_default())
            .replace("@IDENTITY@", &identity.uri())
            .replace("@ADMIN_TOKEN@", ADMIN_TOKEN)
            .replace("@WORKERS@", &plan.workers.to_string())
            .replace("@HTTP@", plan.lines);
        let connections = "location = /-/connections { stub_status; }";
        text = text.replace("@CONNECTIONS@", if counts_connections { connections } else { "" });

        let (mut servers, mut sites, mut ports) = (String::new(), Vec::new(), Vec::new());
        for (name, conf) in site::CONFIGURATIONS {
            let conf = site::with_optional_locations(conf, was_built_with);
            let (plain, h2, tls) = (Port::free()?, Port::free()?, Port::free()?);
            let listen = format!(
                "listen {}; listen {} http2; listen {} ssl http2;",
                plain.address(),
                h2.address(),
                tls.address()
            );
            let addresses = [plain.address(), h2.address(), tls.address()];
            sites.push(Site::new(name, &conf, addresses));
            servers.push_str(&conf.replace("@LISTEN@", &listen));
            ports.extend([plain, h2, tls]);
        }
        text = text.replace("@SERVERS@", &servers).replace("@TLS@", &directory(&tls.ca()));

        let upstreams = start_upstreams(&mut text, &inspector)?;

        fill(&dir, &sites)?;
        let nginx = Nginx::start_in(dir, Port::free()?, &Config::raw(&text, plan.workers))?;
        if plan.identity_delay > 0 {
            let delay = std::time::Duration::from_millis(plan.identity_delay);
            identity.fault_validations(keystone_testbed::identity::Fault::Delay(delay));
        }
        Ok(Self {
            plan,
            nginx,
            identity,
            sites,
            inspector,
            counts_connections,
            _upstreams: upstreams,
            _ports: ports,
        })
    }

    /// Where the fuzzer itself asks.
    pub fn control(&self) -> SocketAddr {
        self.nginx.address()
    }
}

/// Starts the upstreams that the configuration has, and writes their addresses into it.
fn start_upstreams(text: &mut String, inspector: &Inspector) -> Result<Vec<Upstream>> {
    let mut upstreams = Vec::new();
    for (way, guard) in Way::ALL.iter().flat_map(|way| Guard::ALL.map(|guard| (*way, guard))) {
        let name = format!("@{}_{}@", way.name(), guard.name());
        if text.contains(&name) {
            let upstream = Upstream::start(way, guard, inspector.clone())?;
            *text = text.replace(&name, &upstream.address().to_string());
            upstreams.push(upstream);
        }
    }
    Ok(upstreams)
}

fn directory(file: &Path) -> String {
    file.parent().unwrap_or(Path::new("/")).display().to_string()
}

/// The files behind the locations: each root has the same names, with the content of its guard.
fn fill(dir: &TempDir, sites: &[Site]) -> Result<()> {
    let roots = [
        ("open", Guard::Off.content()),
        ("guarded", Guard::On.content()),
        ("inside", Guard::On.content()),
        ("admin", Guard::Admin.content()),
        ("swift", Guard::Swift.content()),
        ("ssi", format!("{}{SSI}", Guard::On.content())),
    ];
    for (root, content) in roots {
        for folder in sites.iter().flat_map(|site| &site.folders) {
            let folder = dir.join(root).join(folder.trim_matches('/'));
            fs::create_dir_all(&folder).during("making a folder of files")?;
            fs::write(folder.join("hello.txt"), &content).during("writing a file")?;
        }
        for page in ["error.html", "login.html", "hello.txt"] {
            fs::write(dir.join(root).join(page), &content).during("writing a page")?;
        }
    }
    fs::create_dir_all(dir.join("acl")).during("making a folder of lists")?;
    let list = r#"{"read": "tenant_id1:*,.r:*", "write": "tenant_id1:user_id1"}"#;
    fs::write(dir.join("acl/listed.json"), list).during("writing a list")?;
    fs::write(dir.join("users"), "nobody:{PLAIN}no-secret\n").during("writing users")?;
    let dav = dir.join("dav");
    fs::create_dir_all(dav.join("dav")).during("making a folder to write to")?;
    make_signing_dir(&dir.join("keystone"))?;
    let (user, group) = keystone_testbed::nginx::worker_ids();
    for path in [dav.join("dav"), dav] {
        std::os::unix::fs::chown(path, Some(user), Some(group)).during("giving away a folder")?;
    }
    Ok(())
}

const NGINX: &str = include_str!("../conf/nginx.conf");
const SSI: &str = "<!--#include virtual=\"/part/hello.txt\" -->\
    <!--#include virtual=\"/off/x\" --><!--#echo var=\"keystone_user_id\" -->";
