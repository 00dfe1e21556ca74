//! The cloud that all tests of this program share.

use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use keystone_testbed::keystone::{python, source, Issue, Keystone};
use keystone_testbed::oracle::Oracle;
use keystone_testbed::process::at_exit;

/// Three Keystones on one database, and the oracle.
pub struct Cloud {
    /// Issues Fernet tokens.
    pub fernet: Keystone,
    /// Issues JWS tokens.
    pub jws: Keystone,
    /// Gives Fernet tokens that expire soon; `fernet` knows them too.
    pub brief: Keystone,
    /// auth_token of a current release.
    pub oracle: Oracle,
}

/// A user of project demo who gets access tokens with a certificate.
pub const ROBOT: &str = "robot";

static CLOUD: Mutex<Option<Arc<Cloud>>> = Mutex::new(None);

/// The cloud; it is started with the first call, and ends with the program.
pub fn cloud() -> Arc<Cloud> {
    let mut cloud = CLOUD.lock().unwrap_or_else(PoisonError::into_inner);
    let cloud = cloud.get_or_insert_with(|| {
        let started = Arc::new(Cloud::start());
        at_exit(end);
        started
    });
    Arc::clone(cloud)
}

extern "C" fn end() {
    drop(CLOUD.lock().unwrap_or_else(PoisonError::into_inner).take());
}

impl Cloud {
    fn start() -> Self {
        // Most of the time goes into Python's imports.
        let oracle = std::thread::spawn(start_oracle);
        let fernet = Keystone::start().unwrap_or_else(|error| panic!("{error}"));
        fernet.make_user(ROBOT, "demo", &["member"]).unwrap();
        fernet.accept_certificates(ROBOT).unwrap();
        let (jws, brief) = std::thread::scope(|threads| {
            let jws = threads.spawn(|| fernet.beside(Issue::Jws));
            let brief = fernet.beside(Issue::BriefFernet).unwrap();
            (jws.join().unwrap().unwrap(), brief)
        });
        Self { fernet, jws, brief, oracle: oracle.join().unwrap() }
    }
}

fn start_oracle() -> Oracle {
    let mut command = Command::new(python().unwrap_or_else(|error| panic!("{error}")));
    command.arg(source("oracle.py"));
    Oracle::start(&mut command).unwrap()
}
