//! Standard output of the commands: text, JSON, tables, and detection of a closed pipe.

use crate::cli_error::CliError;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{self, ErrorKind, Write};

/// Returns a table without borders, as wide as the terminal, but at least [`MIN_TABLE_WIDTH`].
pub(crate) fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_some_and(|width| width < MIN_TABLE_WIDTH) {
        table.set_width(MIN_TABLE_WIDTH);
    }
    table
}

/// Lower bound of the width of a table, in columns. Some terminals report a width of 0.
const MIN_TABLE_WIDTH: u16 = 80;

/// Writes to standard output. A closed pipe is not an error.
pub(crate) fn print(bytes: &[u8]) -> Result<(), CliError> {
    print_with(|out| out.write_all(bytes))
}

/// Writes indented JSON to standard output.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(CliError::runtime)?;
    print(format!("{text}\n").as_bytes())
}

/// Calls `write` with a buffered standard output. A closed pipe is not an error.
pub(crate) fn print_with(
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), CliError> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(cannot_write(&error)),
        _ => Ok(()),
    }
}

/// Returns the error for a failed write to standard output.
pub(crate) fn cannot_write(error: &io::Error) -> CliError {
    CliError::Runtime(format!("cannot write to standard output: {error}"))
}

/// Waits until the reader of standard output closes the pipe. Writes nothing. Never completes if standard output is
/// not a pipe.
pub(crate) async fn stdout_closed() {
    use rustix::event::{PollFd, PollFlags, poll};
    let (closed, wait) = tokio::sync::oneshot::channel();
    // A blocking `poll` needs a thread of its own.
    let thread = std::thread::Builder::new().name("reloader-stdout".into()).spawn(move || {
        let stdout = io::stdout();
        let mut pipe = [PollFd::new(&stdout, PollFlags::empty())];
        while let Err(rustix::io::Errno::INTR) = poll(&mut pipe, None) {}
        // `poll` reports POLLERR for a pipe whose reader has closed it.
        if pipe[0].revents().contains(PollFlags::ERR) {
            let _ = closed.send(());
        }
    });
    if thread.is_err() || wait.await.is_err() {
        std::future::pending::<()>().await;
    }
}
