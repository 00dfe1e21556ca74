//! The module beside Debian's other modules for nginx, loaded before it and after it.

mod phases;
