//! Oracle: checks the invariants of the contract at every step. It observes the inputs and effects
//! of the engine, keeps the expected state, and names the violated point of the contract.
//!
//! The contract does not promise these properties, and the oracle does not check them:
//!
//! - Monotonic order of values after a watch event with an outdated state. The engine cannot detect
//!   such an event; the next fetch corrects the value.
//! - Detection of an unannounced change behind a weak cursor: see `Host::is_hidden_by_weak_cursor`.
//! - Accepted values that are up to date: the source may have changed during a slow validation.

mod crash_quarantines;
mod effects;
mod expected_state;
mod inputs;
mod pins;
mod schedule;

pub(super) use expected_state::{Oracle, Violation};
