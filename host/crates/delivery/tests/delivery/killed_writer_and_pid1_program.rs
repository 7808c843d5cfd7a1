//! Program that the tests run as a child process: a writer that a test kills, or process 1 of a container.

use reloader_delivery::{Backup, Delivered, File, FileSettings, Part, Sink, Update, process::pid1};
use reloader_engine::types::{Snapshot, SourceName};
use std::{
    env,
    error::Error,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

/// Size of a value, in bytes. Each value repeats one letter. The size makes it likely that the kill hits a write.
const VALUE_BYTES: usize = 300_000;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let (mode, path) = (arguments.next(), arguments.next());
    let (Some(mode), Some(path)) = (mode, path) else {
        return Err("expected a mode and a path".into());
    };
    if mode == "pid1" {
        let exit = pid1::run(Path::new(&path), None, arguments)?;
        return Ok(exit.code.into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(write_until_killed(Path::new(&path)))
}

/// Writes values to `path` until the process is killed. Prints a line when the file and its backup exist.
async fn write_until_killed(path: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let backup = Backup::Suffix(".bak".into());
    let sink = File::new(FileSettings { backup, ..FileSettings::new(path) });
    for (number, letter) in (b'a'..=b'z').cycle().enumerate() {
        let revision = u64::try_from(number)? + 1;
        let update = Update::new(vec![Part {
            source: SourceName::new("app"),
            revision: revision.into(),
            at: jiff::Timestamp::now(),
            stale: None,
            value: Some(Snapshot::new(vec![letter; VALUE_BYTES])),
        }]);
        assert_eq!(sink.deliver(&update).await?, Delivered::Changed);
        if number == 3 {
            writeln!(io::stdout(), "writing")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
