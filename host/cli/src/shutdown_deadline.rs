//! Deadline of the shutdown: ends the program, whatever it waits for.

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

/// Time for the message. Standard error may be a full pipe.
const MESSAGE_TIMEOUT: Duration = Duration::from_millis(100);

/// Deadlines of the deadline thread. The thread starts with the program, since the system may be unable to start one at
/// the end.
static DEADLINE_THREAD: OnceLock<Sender<Deadline>> = OnceLock::new();

struct Deadline {
    at: Instant,
    limit: Duration,
    /// Exit status of the program.
    status: i32,
}

/// Starts the deadline thread, unless it runs.
pub(crate) fn start() -> io::Result<()> {
    let (sender, deadlines) = channel();
    if DEADLINE_THREAD.set(sender).is_ok() {
        let thread = thread::Builder::new().name("reloader-deadline".into());
        thread.spawn(move || {
            if let Some(deadline) = wait_for_first(&deadlines) {
                print_timeout(deadline.limit);
                process::exit(deadline.status);
            }
        })?;
    }
    Ok(())
}

/// Exits with this status after `limit`, unless the program has ended by then.
///
/// Exits at once if the deadline thread does not run: the program could wait for ever.
pub(crate) fn exit_after(limit: Duration, status: i32) {
    // A limit beyond the range of the clock never passes.
    let Some(at) = Instant::now().checked_add(limit) else { return };
    let deadline = Deadline { at, limit, status };
    let is_sent = DEADLINE_THREAD.get().is_some_and(|thread| thread.send(deadline).is_ok());
    if !is_sent {
        process::exit(status);
    }
}

/// Waits until the first of all deadlines has passed, and returns it; `None` if there can be none.
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
