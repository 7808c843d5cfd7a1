//! Deadline of the shutdown: exits the program even if a thread or a task blocks.

use std::{
    io::{self, Write as _, stderr},
    process,
    sync::{
        OnceLock,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// Time limit for writing the message about the timeout. Standard error may be a full pipe.
const MESSAGE_TIMEOUT: Duration = Duration::from_millis(100);

/// Channel that sends deadlines to the deadline thread. The thread starts with the program, since the system may be
/// unable to start a thread during the shutdown.
static DEADLINE_THREAD: OnceLock<Sender<Deadline>> = OnceLock::new();

struct Deadline {
    at: Instant,
    limit: Duration,
    /// Exit status of the program if the shutdown exceeds the deadline.
    status: i32,
}

/// Starts the deadline thread, unless it is already running.
pub(crate) fn start() -> io::Result<()> {
    let (sender, deadlines) = channel();
    if DEADLINE_THREAD.set(sender).is_ok() {
        let thread = thread::Builder::new().name("reloader-deadline".into());
        thread.spawn(move || {
            if let Some(deadline) = wait_for_first(&deadlines) {
                // Without a time limit, the program ends at once on purpose.
                if !deadline.limit.is_zero() {
                    print_timeout(deadline.limit);
                }
                process::exit(deadline.status);
            }
        })?;
    }
    Ok(())
}

/// Exits the program with this status after `limit`, unless it has exited before.
///
/// Exits at once if the deadline thread is not running: without a deadline, the shutdown could hang for ever.
pub(crate) fn exit_after(limit: Duration, status: i32) {
    // A deadline beyond the range of the clock is never reached.
    let Some(at) = Instant::now().checked_add(limit) else { return };
    let deadline = Deadline { at, limit, status };
    let is_sent = DEADLINE_THREAD.get().is_some_and(|thread| thread.send(deadline).is_ok());
    if !is_sent {
        process::exit(status);
    }
}

/// Waits until the earliest deadline has passed, and returns it; `None` if the channel is closed before the first
/// deadline.
fn wait_for_first(deadlines: &Receiver<Deadline>) -> Option<Deadline> {
    let mut first = deadlines.recv().ok()?;
    loop {
        match deadlines.recv_timeout(first.at.saturating_duration_since(Instant::now())) {
            Ok(deadline) if deadline.at < first.at => first = deadline,
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Some(first),
        }
    }
}

fn print_timeout(limit: Duration) {
    let print = move || {
        let _ = writeln!(stderr(), "error: shutdown timed out after {limit:?}, exiting");
    };
    let Ok(message) = thread::Builder::new().spawn(print) else { return };
    let tick = Duration::from_millis(5);
    for _ in 0..MESSAGE_TIMEOUT.as_millis() / tick.as_millis() {
        if message.is_finished() {
            break;
        }
        thread::sleep(tick);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_deadline_may_be_the_first_to_pass() {
        let (sender, deadlines) = channel();
        for (limit, status) in [(3600, 1), (0, 2), (7200, 3)] {
            let limit = Duration::from_secs(limit);
            sender.send(Deadline { at: Instant::now() + limit, limit, status }).unwrap();
        }
        assert_eq!(wait_for_first(&deadlines).map(|deadline| deadline.status), Some(2));
    }
}
