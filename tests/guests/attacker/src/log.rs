//! Attacks through the log interface of plugins.

use crate::memory::text;
use guest_sdk::tracing;
use std::io::Write;

pub(crate) fn log(who: &str) -> Vec<u8> {
    tracing::warn!(answer = 42, who, "something to say\n\u{1b}[31m");
    tracing::warn!(target: "mod\nule", "from\r\n2026-01-01T00:00:00Z ERROR elsewhere\u{202e}");
    b"done".to_vec()
}

pub(crate) fn levels() -> Vec<u8> {
    tracing::trace!("at trace");
    tracing::debug!("at debug");
    tracing::info!("at info");
    tracing::warn!("at warn");
    tracing::error!("at error");
    b"done".to_vec()
}

pub(crate) fn flood() -> Vec<u8> {
    for number in 0..100_000 {
        tracing::warn!(number, "and on");
    }
    b"done".to_vec()
}

pub(crate) fn oversized() -> Vec<u8> {
    let long = text(4 << 20);
    tracing::warn!(long, "{long}");
    b"done".to_vec()
}

/// Logs an event with 1,000 fields. Calls the import of the host directly, because the SDK limits the
/// number of fields.
pub(crate) fn many_fields() -> Vec<u8> {
    use guest_sdk::guest::bindings::source::reloader::plugin::log;
    let field = log::Field { name: "name".into(), value: text(10_000) };
    let many_fields = vec![field; 1_000];
    log::event(log::Level::Warn, "attacker", "many fields", &many_fields);
    b"done".to_vec()
}

pub(crate) fn print() -> Vec<u8> {
    println!("on standard output");
    eprintln!("on standard error");
    b"done".to_vec()
}

pub(crate) fn print_flood() -> Vec<u8> {
    let line = text(1_000);
    for _ in 0..10_000 {
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    b"done".to_vec()
}
