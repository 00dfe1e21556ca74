//! The configurations that the project ships.

use std::path::Path;

use keystone_testbed::temp::TempDir;

use super::gateway::Gateway;

#[test]
fn every_sample_is_understood() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nginx-conf");
    let gateway = Gateway::new();
    let mut seen = 0;
    for sample in std::fs::read_dir(samples).unwrap() {
        let sample = sample.unwrap().path();
        // In place of the samples' identity service stands one that is not there.
        let dir = TempDir::new("doctor-sample").unwrap();
        let text = std::fs::read_to_string(&sample).unwrap();
        let text = text.replace("https://identity.example.com", "http://127.0.0.1:1/x");
        let text = text.replace(":1/x:5000", ":1").replace(":1/x:35357", ":1");
        let text = text.replace("/etc/nginx/mime.types", "mime.types");
        let text = text.replace("file:/etc/nginx/", "file:");
        let files = text.split("file:").skip(1).filter_map(|rest| rest.split(';').next());
        for file in files {
            std::fs::write(dir.join(file), "secret").unwrap();
        }
        std::fs::write(dir.join("mime.types"), "types { text/html html; }").unwrap();
        std::fs::write(dir.join("nginx.conf"), text).unwrap();
        let conf = dir.join("nginx.conf");
        let outcome = gateway.run(&["check", conf.to_str().unwrap(), "--user", "root"], "");
        assert_eq!(outcome.code, 1, "{}: {}", sample.display(), outcome.human);
        outcome.says("configuration.servers", "ok", "servers ask for tokens");
        assert!(outcome.find("configuration.directive").is_none(), "{}", outcome.human);
        assert!(outcome.find("configuration.include").is_none(), "{}", outcome.human);
        outcome.says("keystone.tcp", "fail", "nothing listens");
        seen += 1;
    }
    assert!(seen >= 4);
}
