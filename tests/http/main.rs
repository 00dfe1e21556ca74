//! The module over HTTP: a real nginx with it, a real client, and the testbed around them.
//!
//! One program, since each would be linked again with all of the testbed.

mod a_no_token;
mod access_rules;
mod answers;
mod b_offline;
mod c_certificates;
mod cache;
mod caches;
mod config;
mod d_online;
mod d_revocation;
mod e_credentials;
mod e_online;
mod e_online_faults;
mod e_tokens;
mod e_waiting;
mod e_ways;
mod edges;
mod f_headers;
mod faults;
mod flood;
mod foreign_answers;
mod g_delay;
mod h_service_tokens;
mod h_vouching;
mod http2;
mod i_bind;
mod identity_client;
mod leases;
mod logs;
mod memcached;
mod nginx_ways;
mod partial_requests;
mod pauses;
mod proxy;
mod recipes;
mod refresh;
mod revocation_events;
mod samples;
mod start;
mod status;
mod swift;
mod token_form;
mod variables;
mod who_may_pass;
