//! A TLS session that is resumed has the certificate of the client that began it, and the client shows
//! none again.

use std::process::Command;

use keystone_testbed::world::Setup;

use super::Edge;

impl Edge {
    /// The status and `$ssl_session_reused` of two requests, each on a connection of its own.
    fn ask_twice(&self, version: &[&str], client: Option<&str>, token: &str) -> String {
        let url = format!("https://{}/files/hello.txt", self.tls);
        let mut command = Command::new("curl");
        command.args(version).arg("-sS").arg("--cacert").arg(self.files.ca());
        command.args(["-H", &format!("X-Auth-Token: {token}"), "-H", "Connection: close"]);
        if let Some(client) = client {
            command.arg("--cert").arg(self.files.path(&format!("{client}.pem")));
            command.arg("--key").arg(self.files.path(&format!("{client}.key")));
        }
        command.args(["-w", "%{http_code} %header{x-reused}\n"]);
        command.args(["-o", "/dev/null", "-o", "/dev/null", &url, &url]);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[test]
fn a_resumed_session_has_the_certificate_of_the_first() {
    for tickets in ["on", "off"] {
        let server = format!(
            "ssl_session_cache shared:TLS:1m; ssl_session_tickets {tickets};
             add_header X-Reused $ssl_session_reused always;"
        );
        let edge = Edge::start(|setup: Setup| setup.offline().server(&server));
        let token = edge.world.pki(&edge.bound());
        for version in [["--tls-max", "1.2"], ["--tls-max", "1.3"]] {
            let ask = |client| edge.ask_twice(&version, client, &token);
            assert_eq!(ask(Some("owner")), "200 .\n200 r\n", "{tickets} {version:?}");
            assert_eq!(ask(Some("other")), "401 .\n401 r\n", "{tickets} {version:?}");
            assert_eq!(ask(None), "401 .\n401 r\n", "{tickets} {version:?}");
        }
    }
}
