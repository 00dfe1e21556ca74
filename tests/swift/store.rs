//! The store of `static-swift.conf`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use keystone_testbed::http::{Request, Response};
use keystone_testbed::nginx::{was_built_with, Nginx};
use keystone_testbed::sample::{auto, Sample};
use keystone_testbed::swift::{Client, Output};

use crate::cloud::{cloud, Cloud};

/// nginx with `static-swift.conf` and nothing in it; all tests use accounts of the same names, each
/// in a folder of its own.
pub struct Store {
    /// The Keystone whose tokens the store accepts.
    pub cloud: Arc<Cloud>,
    /// Keeps the objects below `objects` in its directory.
    pub nginx: Nginx,
}

impl Store {
    /// Starts one; `None` where nginx cannot write files.
    pub fn start() -> Option<Self> {
        if !was_built_with("--with-http_dav_module") {
            return None;
        }
        let cloud = cloud();
        let sample = Sample::static_swift(&cloud.keystone);
        Some(Self { cloud, nginx: sample.start(auto()) })
    }

    /// The file of a path, or where it would be.
    pub fn file(&self, path: &str) -> PathBuf {
        self.nginx.dir().join("objects").join(path.trim_start_matches('/'))
    }

    /// The account of project demo.
    pub fn account(&self) -> String {
        self.cloud.account("demo")
    }

    /// A container of alice's with an object in it.
    #[track_caller]
    pub fn container(&self, name: &str) -> String {
        let path = format!("{}/{name}", self.account());
        assert_eq!(self.put("alice", &format!("{path}/o"), b"content"), 201);
        path
    }

    /// Writes the ACL file of a container.
    pub fn share(&self, container: &str, acls: &str) {
        let account = self.account();
        let file = self.file(&format!(".acl/{}/{container}", account.trim_start_matches("/v1/")));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, acls).unwrap();
    }

    /// Sends a request to nginx.
    #[track_caller]
    pub fn ask(&self, request: Request) -> Response {
        self.nginx.send(&request).unwrap()
    }

    /// Asks nginx with a token of a user.
    #[track_caller]
    pub fn ask_as(&self, user: &str, request: Request) -> Response {
        self.ask(request.token(&self.cloud.token(user)))
    }

    /// The status of a `PUT` by a user.
    #[track_caller]
    pub fn put(&self, user: &str, path: &str, body: &[u8]) -> u16 {
        self.ask_as(user, Request::new("PUT", path).body(body)).status
    }

    /// The status of a `DELETE` by a user.
    #[track_caller]
    pub fn delete(&self, user: &str, path: &str) -> u16 {
        self.ask_as(user, Request::new("DELETE", path)).status
    }

    /// Status and body of a `GET`.
    #[track_caller]
    pub fn get(&self, user: Option<&str>, path: &str) -> (u16, String) {
        let answer = match user {
            Some(user) => self.ask_as(user, Request::get(path)),
            None => self.ask(Request::get(path)),
        };
        (answer.status, answer.text())
    }

    /// The status of a `GET`.
    #[track_caller]
    pub fn status(&self, user: Option<&str>, path: &str) -> u16 {
        self.get(user, path).0
    }

    fn client(&self, user: &str) -> Client {
        let storage = format!("http://{}{}", self.nginx.address(), self.account());
        Client::with_token(&storage, &self.cloud.token(user))
    }

    /// What the client does for a user, in the directory of nginx.
    pub fn swift(&self, user: &str, words: &[&str]) -> Output {
        self.client(user).run_in(self.nginx.dir(), words).unwrap()
    }

    /// The client has done it.
    #[track_caller]
    pub fn does(&self, user: &str, words: &[&str]) -> String {
        let output = self.swift(user, words);
        assert_eq!(output.code, 0, "{words:?} of {user}: {output:?}");
        output.stdout
    }

    /// The client has not, and has told this status.
    #[track_caller]
    pub fn does_not(&self, user: &str, words: &[&str], status: u16) {
        let output = self.swift(user, words);
        assert_eq!(output.code, 1, "{words:?} of {user}: {output:?}");
        assert!(output.stderr.contains(&format!(" {status} ")), "{words:?} of {user}: {output:?}");
    }
}
