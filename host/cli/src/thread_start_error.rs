//! Startup errors, with a hint to the limit of processes if the system cannot start a thread.

use crate::cli_error::CliError;
use std::{
    io,
    panic::{set_hook, take_hook},
    process,
    sync::Arc,
    thread,
};

/// Reason and hint if the system cannot start a thread.
const NO_THREAD: &str = "the system cannot start a thread; \
     hint: check the limit of processes (`ulimit -u`, `pids.max`, `TasksMax`)";

/// Exit status of a program that cannot be started.
const START_FAILED: i32 = 1;

/// Returns the error for a part of the program that cannot be started. Names the limit of processes if the system
/// has no thread for the part.
pub(crate) fn cannot_start(part: &str, error: &io::Error) -> CliError {
    let reason = match error.kind() {
        io::ErrorKind::WouldBlock => NO_THREAD.into(),
        _ => error.to_string(),
    };
    CliError::Runtime(format!("cannot start {part}: {reason}"))
}

/// Calls `start`, a function of a library that panics only if the system cannot start a thread. Such a panic ends the
/// program with an error.
///
/// The panic is not caught: dropping an async runtime of which only some threads have started waits for ever.
pub(crate) fn start_threads<T>(part: &'static str, start: impl FnOnce() -> T) -> T {
    let default_hook = Arc::new(take_hook());
    let (hook, starting_thread) = (Arc::clone(&default_hook), thread::current().id());
    set_hook(Box::new(move |panic| {
        if thread::current().id() != starting_thread {
            return hook(panic);
        }
        cannot_start(part, &io::ErrorKind::WouldBlock.into()).report();
        process::exit(START_FAILED);
    }));
    let started = start();
    set_hook(Box::new(move |panic| default_hook(panic)));
    started
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(error: CliError) -> String {
        match error {
            CliError::Runtime(message) => message,
            other => panic!("not an error at run time: {other:?}"),
        }
    }

    #[test]
    fn missing_thread_names_the_limit_of_processes() {
        let expected = "cannot start the log: the system cannot start a thread; hint: check the limit of processes \
                        (`ulimit -u`, `pids.max`, `TasksMax`)";
        // Error number 11 is `EAGAIN`, which `pthread_create(3)` returns if no thread can be created.
        let error = io::Error::from_raw_os_error(11);
        assert_eq!(message(cannot_start("the log", &error)), expected);
    }

    #[test]
    fn other_error_is_the_reason() {
        let error = io::Error::other("no descriptor");
        assert_eq!(message(cannot_start("the log", &error)), "cannot start the log: no descriptor");
    }
}
