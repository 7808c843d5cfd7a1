//! Answers that nobody expects.

use guest_sdk::{Failure, Snapshot};

/// A line's end, what a terminal obeys, nothing at all, and text that runs the other way.
pub(crate) const ODD: &str = "odd\n\u{1b}[2J\0\u{202e}\u{2066}\u{7f}\u{85}";

pub(crate) fn odd_strings() -> Snapshot {
    Snapshot::new(ODD).media_type(ODD).cursor(ODD)
}

pub(crate) fn distinct(calls: u32) -> Vec<u8> {
    format!("value {calls}").into_bytes()
}

pub(crate) fn config_later(calls: u32) -> Result<Vec<u8>, Failure> {
    if calls > 3 {
        return Err(Failure::config("on second thoughts, `to` is wrong"));
    }
    Ok(distinct(calls))
}

pub(crate) fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

pub(crate) fn trap_later(calls: u32) -> Vec<u8> {
    if calls % 2 == 0 {
        trap()
    }
    b"not yet".to_vec()
}
