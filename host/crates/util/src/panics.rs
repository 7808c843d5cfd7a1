//! Caught panics.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Calls `action`, and returns the message of its panic as the error.
pub fn catch<T>(action: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(action)).map_err(|panic| message(&*panic).to_owned())
}

/// Returns the message of a caught panic; "without a message" if its payload is not a string.
#[must_use]
pub fn message(panic: &(dyn Any + Send)) -> &str {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::panic_any;

    #[test]
    fn message_of_any_payload_is_returned() {
        assert_eq!(catch(|| 1), Ok(1));
        assert_eq!(catch(|| panic!("literal")), Err::<(), _>("literal".into()));
        assert_eq!(catch(|| panic!("formatted {}", 1)), Err::<(), _>("formatted 1".into()));
        assert_eq!(catch(|| panic_any(1)), Err::<(), _>("without a message".into()));
    }
}
