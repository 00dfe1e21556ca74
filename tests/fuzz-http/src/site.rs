//! A server of the configuration: its ports, and the paths of its locations.

use std::net::SocketAddr;

/// A `server` block.
#[derive(Debug)]
pub struct Site {
    /// The name of its configuration file.
    pub name: &'static str,
    /// Paths that lead to its locations.
    pub paths: Vec<String>,
    /// The prefixes of its locations.
    pub folders: Vec<String>,
    plain: SocketAddr,
    h2: SocketAddr,
    tls: SocketAddr,
}

/// A port of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Door {
    /// HTTP/2 with prior knowledge.
    H2,
    /// HTTP/1.
    Plain,
    /// TLS, in which both are spoken.
    Tls,
}

impl Site {
    /// A server with this configuration, at these addresses: for HTTP/1, for HTTP/2, and for TLS.
    pub fn new(name: &'static str, conf: &str, [plain, h2, tls]: [SocketAddr; 3]) -> Self {
        let names = conf.lines().filter_map(|line| line.trim().strip_prefix("location "));
        let names: Vec<&str> = names.map(|name| name.trim_end_matches(['{', ' '])).collect();
        let is_folder = |name: &&str| name.starts_with('/');
        let folders: Vec<String> =
            names.iter().copied().filter(is_folder).map(str::to_owned).collect();
        let exact = names.iter().filter_map(|name| name.strip_prefix("= "));
        let mut paths: Vec<String> = exact.map(str::to_owned).collect();
        paths.extend(
            folders
                .iter()
                .flat_map(|folder| ["hello.txt", "", "x"].map(|file| format!("{folder}{file}"))),
        );
        Self { name, paths, folders, plain, h2, tls }
    }

    /// The address of a port.
    pub fn address(&self, door: Door) -> SocketAddr {
        match door {
            Door::H2 => self.h2,
            Door::Plain => self.plain,
            Door::Tls => self.tls,
        }
    }
}

/// The servers of each instance.
pub const CONFIGURATIONS: [(&str, &str); 5] = [
    ("gate", include_str!("../conf/gate.conf")),
    ("delay", include_str!("../conf/delay.conf")),
    ("cgi", include_str!("../conf/cgi.conf")),
    ("refused", include_str!("../conf/refused.conf")),
    ("swift", include_str!("../conf/swift.conf")),
];

/// Puts in the locations for which nginx must have been built with an option.
pub fn with_optional_locations(conf: &str, has: impl Fn(&str) -> bool) -> String {
    let mut text = conf.to_owned();
    for (name, option, locations) in OPTIONAL {
        let locations = if has(option) { *locations } else { "" };
        text = text.replace(name, locations);
    }
    text
}

const OPTIONAL: &[(&str, &str, &str)] = &[
    (
        "@AUTH_REQUEST@",
        "--with-http_auth_request_module",
        "location /ask/ {
            auth_request /check;
            proxy_pass http://@HTTP_ON@;
        }
        location /askany/ {
            satisfy any;
            auth_request /deny;
            proxy_pass http://@HTTP_ON@;
        }
        location = /check {
            internal;
            keystone_auth off;
            proxy_pass_request_body off;
            proxy_set_header Content-Length \"\";
            proxy_pass http://@HTTP_OFF@;
        }
        location = /deny {
            internal;
            return 401;
        }",
    ),
    (
        "@ADDITION@",
        "--with-http_addition_module",
        "location /addition/ {
            add_before_body /part/hello.txt;
            add_after_body /off/x;
            addition_types *;
            root @DIR@/guarded;
        }",
    ),
    (
        "@DAV@",
        "--with-http_dav_module",
        "location /dav/ {
            dav_methods PUT DELETE MKCOL COPY MOVE;
            root @DIR@/dav;
        }",
    ),
    (
        "@DAV_SWIFT@",
        "--with-http_dav_module",
        "location /v1/AUTH_tenant_id1/dav/ {
            dav_methods PUT DELETE;
            create_full_put_path on;
            root @DIR@/dav;
        }",
    ),
    (
        "@GRPC@",
        "--with-http_v2_module",
        "location /grpc/ {
            keystone_auth on;
            grpc_pass grpc://@GRPC_ON@;
        }
        location /grpc-delay/ {
            keystone_auth delay;
            grpc_pass grpc://@GRPC_DELAY@;
        }",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_are_those_of_the_locations() {
        let conf = "location / {\n}\n location = /status {\n}\nlocation @x {\n}\nlocation /a/ {";
        let site = Site::new("x", conf, [([127, 0, 0, 1], 1).into(); 3]);
        assert_eq!(site.folders, ["/", "/a/"]);
        assert_eq!(site.paths[..2], ["/status", "/hello.txt"]);
    }

    #[test]
    fn there_are_a_few_dozen_locations() {
        let all = CONFIGURATIONS.iter().map(|(_, conf)| with_optional_locations(conf, |_| true));
        let locations: usize = all.map(|conf| conf.matches("location ").count()).sum();
        assert!(locations > 90, "{locations}");
    }
}
