//! Catches panics, and returns their messages as errors.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

/// Calls `action`, and returns the message of its panic as the error.
pub fn catch<T>(action: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(action)).map_err(|panic| message(&*panic).to_owned())
}

/// Waits for `future`, and returns the message of its panic as the error.
pub async fn catch_future<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    poll_fn(|context| match catch(|| future.as_mut().poll(context)) {
        Ok(poll) => poll.map(Ok),
        Err(message) => Poll::Ready(Err(message)),
    })
    .await
}

/// Returns the message of a caught panic; "without a message" if its payload is not a string.
fn message(panic: &(dyn Any + Send)) -> &str {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        future::ready,
        panic::panic_any,
        task::{Context, Waker},
    };

    #[test]
    fn message_of_any_payload_is_returned() {
        assert_eq!(catch(|| 1), Ok(1));
        assert_eq!(catch(|| panic!("literal")), Err::<(), _>("literal".into()));
        assert_eq!(catch(|| panic!("formatted {}", 1)), Err::<(), _>("formatted 1".into()));
        assert_eq!(catch(|| panic_any(1)), Err::<(), _>("without a message".into()));
    }

    #[test]
    fn panic_of_future_is_its_result() {
        let mut context = Context::from_waker(Waker::noop());
        let polled = pin!(catch_future(ready(1))).poll(&mut context);
        assert_eq!(polled, Poll::Ready(Ok(1)));
        let polled = pin!(catch_future(async { panic!("in a poll") })).poll(&mut context);
        assert_eq!(polled, Poll::Ready(Err::<(), _>("in a poll".into())));
    }
}
