//! Messages of caught panics.

use std::any::Any;

/// Returns the message of a panic that was caught.
#[must_use]
pub fn message(panic: &(dyn Any + Send)) -> &str {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}
