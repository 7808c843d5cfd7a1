//! Deadline of the shutdown: ends the program, whatever it waits for.

use std::{
    io::{Write as _, stderr},
    process, thread,
    time::Duration,
};

/// Time for the message. Standard error may be a full pipe.
const MESSAGE_TIMEOUT: Duration = Duration::from_millis(100);

/// Exits with this status after `limit`, unless the program has ended by then.
pub(crate) fn exit_after(limit: Duration, status: i32) {
    let deadline = thread::Builder::new().name("reloader-deadline".into());
    let started = deadline.spawn(move || {
        thread::sleep(limit);
        let message = thread::spawn(move || {
            let _ = writeln!(stderr(), "error: shutdown timed out after {limit:?}, exiting");
        });
        let tick = Duration::from_millis(5);
        for _ in 0..MESSAGE_TIMEOUT.as_millis() / tick.as_millis() {
            if message.is_finished() {
                break;
            }
            thread::sleep(tick);
        }
        process::exit(status);
    });
    if started.is_err() {
        // Without a thread for the deadline, the program could wait for ever.
        process::exit(status);
    }
}
