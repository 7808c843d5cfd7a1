//! Unit tests of the engine: `contract` has a test for each point of the contract in `lib.rs`, the
//! other modules test the detailed rules.

mod contract;
mod crash_quarantine;
mod freshness;
mod harness;
mod hybrid_fallback;
mod outdated_sessions;
mod pins;
mod polling;
mod removal_confirmation;
mod retry_delays;
mod validation;
mod watch_events_during_fetch;
mod watching;
