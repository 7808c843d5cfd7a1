//! Messages of caught panics.

use std::any::Any;

/// Returns the message of a caught panic; "without a message" if its payload is not a string.
#[must_use]
pub fn message(panic: &(dyn Any + Send)) -> &str {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}
