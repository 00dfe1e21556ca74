//! Request targets.

use super::Maker;
use crate::wallet::PROJECT;

impl Maker<'_> {
    /// A path of the server that is well formed.
    pub(super) fn good_target(&mut self) -> Vec<u8> {
        let path = match self.site.name {
            "swift" if self.random.percent(60) => self.swift_path(),
            _ => self.site.paths[self.random.below(self.site.paths.len())].clone(),
        };
        let mut target = path.into_bytes();
        if self.random.percent(20) {
            let ends = [
                "?q=1",
                "?r",
                "?",
                "?token=x",
                "x/close",
                "x/401",
                "x/404",
                "x/500",
                "x/big",
                "x/garbage",
                "x/switch",
                "x/early",
            ];
            target.extend(self.random.pick(&ends).bytes());
        }
        target
    }

    /// A path that is anything.
    pub(super) fn odd_target(&mut self) -> Vec<u8> {
        let good = self.good_target();
        match self.random.below(16) {
            0 => b"/%zz".to_vec(),
            1 => [b"http://localhost".to_vec(), good].concat(),
            2 => [b"HTTP://a:b@localhost:99999/x".to_vec(), good].concat(),
            3 => b"*".to_vec(),
            4 => b"localhost:443".to_vec(),
            5 => [good, vec![b'a'; 200 + self.random.below(70_000)]].concat(),
            6 => [good, b"\0x".to_vec()].concat(),
            7 => [b"/../..".to_vec(), good].concat(),
            8 => [b"/x/../%2e%2e/./".to_vec(), good].concat(),
            9 => [b"//".to_vec(), good].concat(),
            10 => [good, b"%00%0d%0aX-User-Id:%20x".to_vec()].concat(),
            11 => [good, b"#fragment".to_vec()].concat(),
            12 => [good, b"/\xff\xfe\x80".to_vec()].concat(),
            13 => b"".to_vec(),
            14 => percent_encode(&good),
            _ => {
                let mut target = good;
                self.damage(&mut target);
                target
            }
        }
    }

    /// A path of Swift, as a client or an attacker writes it.
    fn swift_path(&mut self) -> String {
        let own = format!("AUTH_{PROJECT}");
        let account = match self.random.below(10) {
            0..6 => own,
            6 => "AUTH_other".into(),
            7 => "AUTH_public".into(),
            8 => "AUTH_%74enant_id1".into(),
            _ => "SERVICE_tenant_id1".into(),
        };
        let rest = [
            "/up/x",
            "/up/",
            "/up",
            "/php/x",
            "/shared/x",
            "/shared/",
            "/listed/hello.txt",
            "/dav/x",
            "",
            "/",
            "/c",
            "/c/o",
            "/c/%2fo",
            "/c/../up/x",
            "/c//o",
            "/%ff",
            "/./x",
            "/c/%00",
        ];
        format!("/v1/{account}{}", self.random.pick(&rest))
    }
}

fn percent_encode(target: &[u8]) -> Vec<u8> {
    let (slash, rest) = target.split_at(target.len().min(1));
    let encoded: String = rest.iter().map(|byte| format!("%{byte:02x}")).collect();
    [slash, encoded.as_bytes()].concat()
}
