//! The module beside other modules for nginx, loaded before it and after it: those of Debian, and
//! one of the tests' own that treats requests as no module should.

mod as_auth_basic;
mod hostile;
mod in_use;
mod phases;
mod token_sources;
