//! A token that was revoked is refused, though memcached still has an answer that says otherwise.

use keystone_testbed::expect;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::Nginx;
use keystone_testbed::wait_for;
use serde_json::json;

use super::fleet::{ask, asked, known, knows, unhurried, user_at, Fleet, STRATEGIES};

const EVENTS: &str = "/v3/OS-REVOKE/events";

fn watchful(strategy: &str) -> Fleet {
    Fleet::start_with(strategy, |setup| {
        let setup = setup.set("keystone_token_cache_time", "1h");
        setup.set("keystone_revocation_events", "200ms")
    })
}

/// Makes a gateway fetch the events, and waits until it uses the current ones.
#[track_caller]
fn goes_by_events(fleet: &Fleet, gateway: &Nginx) {
    let witness = known(&fleet.world, &Payload::v3().user("witness", "witness"));
    assert_eq!(user_at(gateway, &witness), "witness");
    fleet.world.identity.add_event(&json!({"user_id": "witness"}));
    // It is known still, so nothing but an event makes the gateway ask again.
    wait_for("the events to count", || {
        assert_eq!(user_at(gateway, &witness), "witness");
        (asked(&fleet.world, &witness) == 2).then_some(())
    })
    .unwrap();
}

#[test]
fn a_gateway_that_had_it_from_memcached_refuses_it() {
    unhurried(|| {
        for strategy in STRATEGIES {
            let fleet = watchful(strategy);
            let token = fleet.told(&Payload::v3());
            let entry = fleet.entry();
            let name = fleet.memcached.names().unwrap().remove(0);
            goes_by_events(&fleet, &fleet.second);
            fleet.second_knows(&token, "user_id1");
            fleet.world.identity.revoke_online(&token);
            for gateway in [&fleet.second, &fleet.world.nginx] {
                wait_for("it to be refused", || (ask(gateway, &token).status == 401).then_some(()))
                    .unwrap();
                expect::refused(&ask(gateway, &token));
            }
            // The entry lies there as before.
            assert_eq!(fleet.memcached.read(&name).unwrap(), Some(entry), "{strategy}");
        }
    });
}

#[test]
fn a_gateway_that_starts_later_refuses_it() {
    unhurried(|| {
        for strategy in STRATEGIES {
            let fleet = watchful(strategy);
            let revoked = fleet.told(&Payload::v3());
            let other = fleet.told(&Payload::v3());
            fleet.world.identity.revoke_online(&revoked);
            let late = fleet.world.gateway(|config| config);
            goes_by_events(&fleet, &late);
            expect::refused(&ask(&late, &revoked));
            assert_eq!(asked(&fleet.world, &revoked), 2, "{strategy}");
            // What no event covers is still taken from there.
            knows(&fleet.world, &late, &other);
        }
    });
}

#[test]
fn a_gateway_that_has_not_had_the_events_yet_asks_for_itself() {
    unhurried(|| {
        let fleet = watchful("encrypt");
        let token = fleet.told(&Payload::v3());
        fleet.world.identity.revoke_online(&token);
        let late = fleet.world.gateway(|config| config);
        expect::refused(&ask(&late, &token));
    });
}

#[test]
fn what_an_event_covers_is_validated_again_at_every_gateway() {
    unhurried(|| {
        let fleet = watchful("mac");
        let token = fleet.told(&Payload::v3());
        fleet.world.identity.add_event(&json!({"project_id": "tenant_id1"}));
        goes_by_events(&fleet, &fleet.second);
        // The identity service has the last word, and it still knows the token.
        fleet.second_asks(&token, "user_id1");
        fleet.second_knows(&token, "user_id1");
    });
}

#[test]
fn a_token_that_the_revocation_list_names_is_asked_about() {
    unhurried(|| {
        let fleet = Fleet::start("encrypt");
        let (revoked, other) = (fleet.told(&Payload::v3()), fleet.told(&Payload::v3()));
        fleet.world.identity.revoke_token(&revoked);
        fleet.world.identity.forget(&revoked);
        // The list is fetched for tokens that can be on it.
        assert_eq!(ask(&fleet.second, &fleet.world.pki(&Payload::v3())).status, 200);
        expect::refused(&ask(&fleet.second, &revoked));
        fleet.second_knows(&other, "user_id1");
    });
}

#[test]
fn without_events_an_entry_counts_for_its_time() {
    unhurried(|| {
        let fleet = Fleet::start("encrypt");
        let token = fleet.told(&Payload::v3());
        fleet.world.identity.revoke_online(&token);
        fleet.second_knows(&token, "user_id1");
        assert_eq!(fleet.world.identity.count(EVENTS), 0);
    });
}
