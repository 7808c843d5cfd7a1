//! Sandbox tests: hostile plugins, components and servers, and the exact outcome of each attack.
//!
//! The guest `attacker` performs the attack that its settings select. Attacks that no compiler would
//! produce are WebAssembly text in `tests/guests/*.wat`. `attack_coverage` checks that each attack and
//! each text guest has a test.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

mod address_policy;
mod attack_coverage;
mod compile_cache;
mod egress;
mod files;
mod grants;
mod hostile_components;
mod hostile_descriptions;
mod hostile_http_servers;
mod hostile_redis_servers;
mod interface_violations;
mod isolation;
mod log;
mod memory;
mod read_from_hostile_server;
mod run_attack;
mod run_untrusted_component;
mod secrets;
mod time;
