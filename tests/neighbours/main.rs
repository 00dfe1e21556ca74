//! The module beside other modules for nginx, loaded before it and after it: those of Debian, and
//! one of the tests' own that treats requests as no module should.

mod as_auth_basic;
mod hostile;
mod in_use;
mod overruled;
mod phases;
mod token_sources;

use keystone_testbed::nginx::Order;

/// In which order the modules are loaded, and the value of `keystone_early`.
type Way = (Order, &'static str);

const WAYS: [Way; 4] =
    [(Order::After, "off"), (Order::Before, "off"), (Order::After, "on"), (Order::Before, "on")];
