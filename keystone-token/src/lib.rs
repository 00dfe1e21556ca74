//! Keystone tokens.
