//! The program as an operator runs it, against the testbed's identity service.

mod directory;
mod gateway;
mod keystone;
mod nginx;
mod proxy;
mod resolver;
mod samples;
mod settings;
mod tokens;
