//! Caches in front of nginx, and nginx's own.

mod control;
mod variants;

use keystone_testbed::mint::Payload;
use keystone_testbed::world::World;

/// The tokens of two users.
pub fn alice_and_bob(world: &World) -> [String; 2] {
    ["alice", "bob"].map(|name| world.pki(&Payload::v3().user(name, name)))
}
