//! Command `host render`: prints what the sinks of a configuration file would write, and changes nothing.

use crate::{
    cli_error::CliError, invalid_config::invalid_config, log_and_cache_args::CommonArgs,
    signals::Stop, start_plugin_host::start_plugin_host, stdout::print,
};
use clap::Args;
use reloader_app::FilePreview;
use reloader_fs_watch::{RegularFileError, access_within, read_regular_file};
use reloader_plugin_runtime::Limits;
use reloader_util::{sanitize::sanitize, units::Time};
use similar::TextDiff;
use std::{io::ErrorKind, path::PathBuf, time::Duration};

/// Time limit for reading a present file.
const FILE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of a present file, in bytes: that of a rendered file.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Time limit of the search for a small difference. After it, the difference is larger than necessary.
const DIFF_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct RenderArgs {
    /// Sink whose content is printed as it is, such as `app/template-0`; without a sink, the difference of each file
    /// between its present and its new content is printed
    sink: Option<String>,
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "reloader.toml")]
    config: PathBuf,
    /// Time limit for the reads of the sources
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    timeout: Time,
}

impl RenderArgs {
    pub(crate) async fn execute(self, common: &CommonArgs) -> Result<(), CliError> {
        let mut stop = Stop::listen()?;
        let runtime = start_plugin_host(common, Limits::default())?;
        let rendering = async {
            let checked = reloader_app::check(&runtime, &self.config).await;
            let (config, prepared) = checked.map_err(|error| invalid_config(&error))?;
            let limit = self.timeout.0;
            reloader_app::preview_files(runtime.clone(), config, prepared, limit)
                .await
                .map_err(|error| CliError::Runtime(format!("{error:#}")))
        };
        let files = tokio::select! {
            files = rendering => files?,
            () = stop.wait() => return Err(CliError::Runtime("stopped".into())),
        };
        match &self.sink {
            Some(sink) => print_content(&files, sink),
            None => print_differences(&files).await,
        }
    }
}

/// Prints the content of the file of one sink.
fn print_content(files: &[FilePreview], sink: &str) -> Result<(), CliError> {
    let Some(file) = files.iter().find(|file| file.sink == sink) else {
        let known: Vec<_> = files.iter().map(|file| format!("`{}`", file.sink)).collect();
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        return Err(CliError::Usage(format!(
            "no sink `{}` writes a file; available: {known}",
            sanitize(sink)
        )));
    };
    match &file.content {
        Ok(content) => print(content.as_deref().unwrap_or_default()),
        Err(error) => Err(CliError::Runtime(format!("sink `{sink}`: {error}"))),
    }
}

/// Prints the difference of each file. Fails if the content of a file cannot be determined.
async fn print_differences(files: &[FilePreview]) -> Result<(), CliError> {
    let mut errors = Vec::new();
    for file in files {
        let path = file.path.display();
        let new = match &file.content {
            Ok(content) => content.as_deref(),
            Err(error) => {
                errors.push(format!("sink `{}`: {error}", file.sink));
                continue;
            }
        };
        match present_content(file).await {
            Ok(old) => {
                print(difference(&file.sink, &path.to_string(), old.as_deref(), new).as_bytes())?
            }
            Err(error) => {
                errors.push(format!("sink `{}`: cannot read `{path}`: {error}", file.sink))
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(CliError::Runtime(errors.join("\n"))) }
}

/// Returns the content of the present file; `None` if there is no file.
async fn present_content(file: &FilePreview) -> Result<Option<Vec<u8>>, String> {
    let path = file.path.clone();
    let read = move || read_regular_file(&path, MAX_FILE_BYTES);
    let read = access_within(&file.path, FILE_TIMEOUT, read).await;
    match read.map_err(|error| error.to_string())? {
        Ok(content) => Ok(Some(content)),
        Err(RegularFileError::Io(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns the unified difference of a file, or a line that says that there is none.
fn difference(sink: &str, path: &str, old: Option<&[u8]>, new: Option<&[u8]>) -> String {
    let (sink, path) = (sanitize(sink), sanitize(path));
    if old == new {
        return format!("# {sink}: {path} is unchanged\n");
    }
    let heading = format!("# {sink}\n");
    let texts = [old, new].map(|content| std::str::from_utf8(content.unwrap_or_default()));
    let [Ok(old_text), Ok(new_text)] = texts else {
        let bytes = |content: Option<&[u8]>| content.map_or(0, <[u8]>::len);
        return format!(
            "{heading}{path}: binary, {} bytes before, {} after\n",
            bytes(old),
            bytes(new)
        );
    };
    let diff = TextDiff::configure().timeout(DIFF_TIMEOUT).diff_lines(old_text, new_text);
    let name = |content: Option<&[u8]>| if content.is_some() { &*path } else { "/dev/null" };
    format!("{heading}{}", diff.unified_diff().header(name(old), name(new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_names_file_and_lines() {
        let text = difference("app/file-0", "/a", Some(b"one\ntwo\n"), Some(b"one\n2\n"));
        assert_eq!(text, "# app/file-0\n--- /a\n+++ /a\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n");
        let text = difference("app/file-0", "/a", None, Some(b"1\n"));
        assert_eq!(text, "# app/file-0\n--- /dev/null\n+++ /a\n@@ -0,0 +1 @@\n+1\n");
        assert_eq!(difference("s", "/a", Some(b"1"), Some(b"1")), "# s: /a is unchanged\n");
        let text = difference("s", "/a", Some(b"\xff"), Some(b"1"));
        assert_eq!(text, "# s\n/a: binary, 1 bytes before, 1 after\n");
    }
}
