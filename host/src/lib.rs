//! Keeps values that change while programs run up to date.
#![allow(dead_code, reason = "being built")]
pub mod capability;
pub mod config;
pub mod driver;
pub mod engine;
pub mod file;
pub mod model;
pub mod net;
pub mod origin;
pub mod store;
