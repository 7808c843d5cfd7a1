//! What takes time, for those who follow it from afar. Where nobody does, a span costs nothing: it has a target
//! of its own, and the lowest level, so that the log does not see it.

use std::fmt::Display;
use tracing::Span;

/// What spans are told apart by from whatever else is traced.
pub(crate) const TARGET: &str = "reloader_spans";

/// A span with these fields, which may fail.
macro_rules! span {
    ($name:literal $(, $($fields:tt)*)?) => {
        tracing::trace_span!(
            target: $crate::spans::TARGET,
            $name,
            otel.status_code = tracing::field::Empty,
            otel.status_description = tracing::field::Empty
            $(, $($fields)*)?
        )
    };
}
pub(crate) use span;

/// The present span has come to nothing.
pub(crate) fn failed(why: &dyn Display) {
    let span = Span::current();
    if !span.is_disabled() {
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", tracing::field::display(why));
    }
}
