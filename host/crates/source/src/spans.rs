//! Tracing spans of reads, watches, validations and deliveries, for OpenTelemetry. The spans are disabled unless a
//! subscriber selects their target. The default filter of the log does not select it.

use std::fmt::Display;
use tracing::Span;

/// Target of the spans, by which a subscriber selects them.
pub const TARGET: &str = "reloader_spans";

/// Creates a span with these fields; [`mark_failed`] marks it as failed.
#[doc(hidden)]
#[macro_export]
macro_rules! __span {
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
#[doc(inline)]
pub use __span as span;

/// Marks the current span as failed, with the cause.
pub fn mark_failed(cause: &dyn Display) {
    let span = Span::current();
    if !span.is_disabled() {
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", tracing::field::display(cause));
    }
}
