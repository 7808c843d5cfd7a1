//! Panics that were caught.

use std::any::Any;

/// What a panic said.
pub(crate) fn message(panic: &(dyn Any + Send)) -> &str {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}
