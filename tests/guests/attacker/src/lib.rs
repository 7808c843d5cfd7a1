//! Hostile plugin: performs the attack that its settings select. Each module implements one
//! category of attacks.
//!
//! `tests/tests/sandbox` asserts the exact outcome of each attack and checks that each one has a
//! test. Attacks that the SDK cannot express are WebAssembly text in `tests/guests/*.wat`.

mod attack;
mod egress;
mod files;
mod interface_violations;
mod isolation;
mod log;
mod memory;
mod plugin;
mod settings;
mod time;

use plugin::Attacker;

guest_sdk::export!(Attacker: Reload + RealtimeWatch);
