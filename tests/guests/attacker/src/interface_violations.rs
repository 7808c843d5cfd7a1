//! Violations of the plugin interface.

use guest_sdk::{Failure, Snapshot};

/// Text with a line break, a terminal escape sequence, NUL and bidirectional overrides.
pub(crate) const CONTROL_CHARACTERS: &str = "odd\n\u{1b}[2J\0\u{202e}\u{2066}\u{7f}\u{85}";

pub(crate) fn control_characters() -> Snapshot {
    Snapshot::new(CONTROL_CHARACTERS).media_type(CONTROL_CHARACTERS).cursor(CONTROL_CHARACTERS)
}

pub(crate) fn distinct(calls: u32) -> Vec<u8> {
    format!("value {calls}").into_bytes()
}

pub(crate) fn late_config_failure(calls: u32) -> Result<Vec<u8>, Failure> {
    if calls > 3 {
        return Err(Failure::config("`to` is invalid"));
    }
    Ok(distinct(calls))
}

pub(crate) fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

pub(crate) fn trap_every_second_call(calls: u32) -> Vec<u8> {
    if calls % 2 == 0 {
        trap()
    }
    b"not yet".to_vec()
}
