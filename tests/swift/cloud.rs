//! The cloud that all tests of this program share.

use std::sync::{Arc, Mutex, PoisonError};

use keystone_testbed::keystone::Keystone;
use keystone_testbed::process::at_exit;
use keystone_testbed::swift::Swift;

/// A Keystone, and a Swift that trusts the identity headers of every request.
///
/// All tests use the same accounts, so each has containers of its own.
pub struct Cloud {
    /// Issues Fernet tokens.
    pub keystone: Keystone,
    /// Is to be reached through a gateway.
    pub swift: Swift,
}

static CLOUD: Mutex<Option<Arc<Cloud>>> = Mutex::new(None);

/// The cloud; it is started with the first call, and ends with the program.
pub fn cloud() -> Arc<Cloud> {
    let mut cloud = CLOUD.lock().unwrap_or_else(PoisonError::into_inner);
    let cloud = cloud.get_or_insert_with(|| {
        let swift = std::thread::spawn(Swift::start);
        let keystone = Keystone::start().unwrap_or_else(|error| panic!("{error}"));
        let swift = swift.join().unwrap().unwrap_or_else(|error| panic!("{error}"));
        at_exit(end);
        Arc::new(Cloud { keystone, swift })
    });
    Arc::clone(cloud)
}

extern "C" fn end() {
    drop(CLOUD.lock().unwrap_or_else(PoisonError::into_inner).take());
}

impl Cloud {
    /// The account of a project.
    pub fn account(&self, project: &str) -> String {
        format!("/v1/AUTH_{}", self.keystone.project(project).unwrap())
    }

    /// A token of a user for the first of its projects.
    pub fn token(&self, user: &str) -> String {
        self.keystone.token(user).unwrap()
    }
}
