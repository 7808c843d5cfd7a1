//! Access to the working directory and the program of a command before the command is started.
//!
//! After `fork`, the child changes to the working directory and executes the program. If a file system does not
//! answer, the child hangs there, often so that it cannot be killed. Therefore a thread of the host makes the same
//! accesses before `fork`. If a file system does not answer, only this thread hangs, and the host forks no child.

use reloader_fs_watch::{access_within, open};
use rustix::fs::{Access, access};
use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::process::Command;

/// Time limit for the access to the working directory, the program and its interpreters.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of interpreters of interpreters that Linux starts (`BINPRM_MAX_RECURSION`).
const MAX_INTERPRETERS: usize = 5;
/// Bytes of a program that Linux reads to find its interpreter (`BINPRM_BUF_SIZE`).
const INTERPRETER_LINE_BYTES: usize = 256;

/// Accesses the working directory, the program and the interpreters of a command. Ignores errors such as a missing program, because
/// the start of the command reports them.
///
/// # Errors
///
/// A file system does not answer within ten seconds, or no thread is available.
pub(super) async fn access_files(command: &Command) -> io::Result<()> {
    let command = command.as_std();
    let program = command.get_program().to_owned();
    let directory = command.get_current_dir().unwrap_or(Path::new(".")).to_owned();
    let own_path = command.get_envs().find(|(name, _)| *name == OsStr::new("PATH"));
    let search_path = match own_path {
        Some((_, path)) => path.map(OsString::from),
        None => env::var_os("PATH"),
    };
    let own = directory.clone();
    if within(&directory, move || access(&own, Access::EXEC_OK)).await?.is_err() {
        return Ok(());
    }
    let mut program = find_program(&directory, program, search_path).await?;
    for _ in 0..=MAX_INTERPRETERS {
        let Some(path) = program.take() else { return Ok(()) };
        let path = directory.join(path);
        let file = path.clone();
        program = within(&path, move || read_interpreter(&file)).await?;
    }
    Ok(())
}

/// Returns the path of a program, which is searched in the directories of `PATH` if it has no slash. Each directory is
/// accessed for itself: one that does not answer counts as such, and not the working directory.
async fn find_program(
    directory: &Path,
    program: OsString,
    search_path: Option<OsString>,
) -> io::Result<Option<PathBuf>> {
    if program.as_bytes().contains(&b'/') {
        return Ok(Some(program.into()));
    }
    for parent in env::split_paths(&search_path.unwrap_or_default()) {
        let path = directory.join(&parent).join(&program);
        let (program, directory) = (program.clone(), directory.to_owned());
        let find = move || which::which_in(program, Some(parent), directory).ok();
        if let Some(found) = within(&path, find).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

async fn within<R: Send + 'static>(
    path: &Path,
    operation: impl FnOnce() -> R + Send + 'static,
) -> io::Result<R> {
    access_within(path, START_TIMEOUT, operation).await.map_err(io::Error::from)
}

/// Reads the beginning of a program: a file system may answer the lookup of a file from a cache, and hang in a read.
/// Returns the interpreter of a script.
fn read_interpreter(program: &Path) -> Option<PathBuf> {
    let mut beginning = [0; INTERPRETER_LINE_BYTES];
    let length = open(program).ok()?.read(&mut beginning).ok()?;
    let line = beginning.get(..length)?.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let word = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let interpreter = line.split(|byte| !word(byte)).find(|word| !word.is_empty())?;
    Some(OsStr::from_bytes(interpreter).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn interpreter_of_script_is_found() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let script = directory.path().join("script");
        for (content, expected) in [
            ("#!/bin/sh\n", Some("/bin/sh")),
            ("#! /usr/bin/env  python\n", Some("/usr/bin/env")),
            ("#!sh", Some("sh")),
            ("#!\n/bin/sh", None),
            ("echo\n#!/bin/sh", None),
            ("", None),
        ] {
            fs::write(&script, content).expect("the script is written");
            assert_eq!(
                read_interpreter(&script).as_deref(),
                expected.map(Path::new),
                "{content:?}"
            );
        }
    }
}
