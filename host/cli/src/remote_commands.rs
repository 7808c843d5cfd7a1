//! Remote commands: `status`, `get`, `watch`, `history`, `rollback`, `resume` and `reload` of a running host.

use crate::{
    blocking_operation_pool::POOL,
    cli_error::CliError,
    output_format::FormatArg,
    signals::Stop,
    stdout::{cannot_write, print, print_json, stdout_closed, table},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use jiff::Timestamp;
use reloader_api_types::{ListedSource, SourceDetail};
use reloader_client::{Change, Client, ClientError, Value};
use reloader_delivery::{Format, Stdout};
use reloader_engine::types::{Snapshot, SourceName};
use reloader_fs_watch::{access_within_blocking, read_regular_file};
use reloader_source::latest_value::SourceState;
use reloader_util::{program_name, sanitize::sanitize};
use std::{
    fmt::Display,
    io::{self, BufWriter, ErrorKind, Write},
    path::{Path, PathBuf},
    time::Duration,
};

/// Maximum size of the file with the token, in bytes.
const MAX_TOKEN_FILE_BYTES: u64 = 64 << 10;
/// Time limit of the access to the file with the token.
const TOKEN_FILE_TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments that select the running host to which a command connects.
#[derive(Debug, Args)]
#[command(next_help_heading = "Host selection")]
pub(crate) struct HostArgs {
    /// Configuration file of a host on this machine [default: reloader.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// URL of the host's API: `http://…`, `https://…` or `unix:PATH` [default: `RELOADER_URL`, if it is set]
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    url: Option<String>,
    /// File with the token for the API [default: the token in `RELOADER_TOKEN`]
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    token_file: Option<PathBuf>,
    /// CA certificates to trust instead of the system's (PEM)
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    ca: Option<PathBuf>,
    /// Client certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with = "config")]
    cert: Option<PathBuf>,
    /// Private key of the client certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl HostArgs {
    fn client(self) -> Result<Client, CliError> {
        // `--config` overrides the environment variable `RELOADER_URL`.
        let from_env = || std::env::var("RELOADER_URL").ok().filter(|url| !url.is_empty());
        let url = self.url.or_else(|| self.config.is_none().then(from_env).flatten());
        let Some(url) = url else {
            if self.token_file.is_some() || self.ca.is_some() || self.cert.is_some() {
                return Err(CliError::Usage(
                    "`--token-file`, `--ca` and `--cert` require a URL: use `--url` or set `RELOADER_URL`"
                        .into(),
                ));
            }
            let config = self.config.unwrap_or_else(|| "reloader.toml".into());
            let socket = reloader_app::running_socket(&config).map_err(CliError::usage)?;
            return Ok(Client::at_socket(&socket));
        };
        let mut client = Client::new(&url).map_err(CliError::usage)?;
        let token = match &self.token_file {
            None => std::env::var("RELOADER_TOKEN").ok(),
            Some(path) => Some(read_token(path)?),
        };
        if let Some(token) = token.filter(|token| !token.trim().is_empty()) {
            client = client.token(&token).map_err(CliError::usage)?;
        }
        if let Some(ca) = self.ca {
            client = client.ca(ca);
        }
        if let Some((cert, key)) = self.cert.zip(self.key) {
            client = client.identity(cert, key);
        }
        Ok(client)
    }
}

fn read_token(path: &Path) -> Result<String, CliError> {
    let file = path.to_owned();
    let unreadable = |error: &dyn Display| {
        let path = path.display();
        CliError::Usage(format!("cannot read `{path}` (`--token-file`): {error}"))
    };
    let read = move || read_regular_file(&file, MAX_TOKEN_FILE_BYTES);
    let read = access_within_blocking(path, TOKEN_FILE_TIMEOUT, read);
    let read = read.map_err(|error| CliError::runtime(format!("`--token-file`: {error}")))?;
    let bytes = read.map_err(|error| unreadable(&error))?;
    String::from_utf8(bytes).map_err(|error| unreadable(&error))
}

/// Converts an error of the API client, and adds a hint for the user of the command line.
fn client_error(error: ClientError) -> CliError {
    match error {
        ClientError::InvalidAddress { .. } | ClientError::InvalidToken => CliError::usage(error),
        ClientError::SocketUnavailable { .. } => CliError::Runtime(format!(
            "{error}\nhint: check that the host is running with this configuration; if the host is a service with \
             another state directory, set `path` in `[state]`, or `STATE_DIRECTORY` to the value of the service"
        )),
        ClientError::ErrorResponse { status: 401, detail }
            if detail.starts_with("authentication required") =>
        {
            let message = "authentication required: use --token-file or RELOADER_TOKEN";
            CliError::Runtime(message.into())
        }
        other => CliError::runtime(other),
    }
}

/// Converts the result of a request for one source. If the source does not exist, the error lists the existing
/// sources.
async fn source_result<T>(
    client: &Client,
    source: &str,
    result: Result<T, ClientError>,
) -> Result<T, CliError> {
    let error = match result {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let is_unknown = matches!(error, ClientError::ErrorResponse { status: 404, .. });
    if is_unknown && let Ok(all) = client.sources().await {
        let names: Vec<_> = all.sources.iter().map(|source| &*source.status.name).collect();
        if !names.is_empty() && !names.contains(&source) {
            let more = names.len().saturating_sub(MAX_LISTED_SOURCES);
            let listed = names.iter().take(MAX_LISTED_SOURCES);
            let listed: Vec<_> = listed.map(|name| format!("`{}`", sanitize(name))).collect();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let listed = listed.join(", ");
            return Err(CliError::Runtime(format!("{error}; available: {listed}{more}")));
        }
    }
    Err(client_error(error))
}

/// Maximum number of sources that an error lists.
const MAX_LISTED_SOURCES: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    host: HostArgs,
}

impl StatusArgs {
    pub(crate) async fn execute(self) -> Result<(), CliError> {
        let all = self.host.client()?.sources().await.map_err(client_error)?;
        if self.json {
            return print_json(&all);
        }
        let mut table = table();
        table.set_header(["source", "state", "revision", "changed", "delivered", "error"]);
        for source in &all.sources {
            table.add_row(row(source));
        }
        for group in &all.groups {
            let (name, sinks) = (&group.name, &group.sinks);
            let error = sinks.iter().find_map(|sink| sink.error.as_deref());
            let delivered = sinks.iter().filter(|sink| sink.revision.is_some()).count();
            table.add_row([
                format!("[{}]", sanitize(name)),
                "group".into(),
                String::new(),
                String::new(),
                format!("{delivered}/{}", sinks.len()),
                sanitize(error.unwrap_or_default()),
            ]);
        }
        let mut text = format!("{}\n", table.trim_fmt());
        if let Some(error) = &all.config_error {
            let lines: Vec<_> =
                error.lines().map(|line| format!("  {}\n", sanitize(line))).collect();
            text += "\nthe configuration file is invalid; the previous configuration is still in effect:\n";
            text += &lines.concat();
        }
        print(text.as_bytes())
    }
}

/// Returns the row of a source in the status table.
fn row(source: &ListedSource) -> [String; 6] {
    let status = &source.status;
    let sinks = &status.sinks;
    let is_delivered = |revision: Option<u64>| revision == Some(status.revision);
    let delivered = sinks.iter().filter(|sink| is_delivered(sink.revision)).count();
    let sink_error = || {
        let sink = sinks.iter().find(|sink| sink.error.is_some())?;
        Some(format!("sink `{}`: {}", sink.name, sink.error.as_deref().unwrap_or_default()))
    };
    let error = status.error.clone().or_else(sink_error).unwrap_or_default();
    let state = match status.pinned {
        Some(revision) => format!("{}, pinned to {revision}", status.state),
        None => status.state.clone(),
    };
    [
        sanitize(&status.name),
        sanitize(&state),
        status.revision.to_string(),
        status.at.map(ago).unwrap_or_default(),
        if sinks.is_empty() { String::new() } else { format!("{delivered}/{}", sinks.len()) },
        sanitize(&error),
    ]
}

/// Formats the time since `at`, in its two largest units.
fn ago(at: Timestamp) -> String {
    let seconds = Timestamp::now().duration_since(at).as_secs().max(0).unsigned_abs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s ago"),
        (0, 0, minutes) => format!("{minutes}m {}s ago", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m ago"),
        (days, hours, _) => format!("{days}d {hours}h ago"),
    }
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Name of the source
    source: String,
    /// Print the value of this revision instead of the current one
    #[arg(long, value_name = "REVISION")]
    revision: Option<u64>,
    #[command(flatten)]
    host: HostArgs,
}

impl GetArgs {
    pub(crate) async fn execute(self) -> Result<(), CliError> {
        let client = self.host.client()?;
        let value = client.value(&self.source, self.revision).await;
        let value = source_result(&client, &self.source, value).await?;
        print(&value.content)
    }
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Name of the source
    source: String,
    /// `json`: one JSON object per line, as `run` prints it; `raw`: only the content, followed by a newline unless the
    /// content ends with one
    #[arg(long, value_enum, default_value = "json")]
    format: FormatArg,
    #[command(flatten)]
    host: HostArgs,
}

impl WatchArgs {
    pub(crate) async fn execute(self) -> Result<(), CliError> {
        let client = self.host.client()?;
        let mut stop = Stop::listen()?;
        tokio::select! {
            ended = print_each(&client, &self.source, self.format.into()) => ended,
            () = stop.wait() => Ok(()),
            // The reader of the pipe has exited, as in `host watch … | head -n 1`.
            () = stdout_closed() => Ok(()),
        }
    }
}

/// Prints the current value and each new value, until a request fails or standard output is closed.
async fn print_each(client: &Client, source: &str, format: Format) -> Result<(), CliError> {
    let mut watch = client.watch(source);
    loop {
        let event = watch.next().await;
        let state = match source_result(client, source, event).await? {
            Change::Value(value) => state(value),
            Change::Removed { revision, at } => SourceState {
                revision: revision.into(),
                at: at.unwrap_or_default(),
                ..SourceState::default()
            },
        };
        // A printer skips a revision that is not higher than the previous one. The client has already skipped equal
        // values, so each value gets a new printer, which prints any revision.
        let mut printer = Stdout::new(SourceName::new(source), format);
        // A full pipe blocks only the thread of this closure, not the async tasks.
        let written = POOL.spawn(move || {
            let mut out = BufWriter::new(io::stdout().lock());
            printer.write(state, &mut out).and_then(|()| out.flush())
        });
        match written.await.unwrap_or_else(|error| Err(error.into())) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(|error| cannot_write(&error))?,
        }
    }
}

/// Converts a value of the API client to the state that the printer takes.
fn state(value: Value) -> SourceState {
    let snapshot = Snapshot {
        content: value.content,
        media_type: value.media_type.map(Into::into),
        cursor: None,
    };
    SourceState {
        revision: value.revision.into(),
        value: Some(snapshot),
        at: value.at.unwrap_or_default(),
        ..SourceState::default()
    }
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Name of the source
    source: String,
    /// Print the content of this revision, byte for byte, instead of the list
    #[arg(long, value_name = "REVISION")]
    show: Option<u64>,
    /// Print the content of the last rejected value, byte for byte, instead of the list
    #[arg(long, conflicts_with = "show")]
    rejected: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "show")]
    json: bool,
    #[command(flatten)]
    host: HostArgs,
}

impl HistoryArgs {
    pub(crate) async fn execute(self) -> Result<(), CliError> {
        let (client, source) = (self.host.client()?, self.source);
        if self.show.is_some() {
            let value = client.value(&source, self.show).await;
            let value = source_result(&client, &source, value).await?;
            return print(&value.content);
        }
        if self.rejected {
            return print_rejected(&client, &source, self.json).await;
        }
        let history = client.history(&source).await;
        let entries = source_result(&client, &source, history).await?.revisions;
        if self.json {
            return print_json(&entries);
        }
        if entries.is_empty() {
            print(format!("source `{source}`: no value yet\n").as_bytes())?;
        }
        let mut table = table();
        table.set_header(["revision", "published", "event", "bytes", "sha256"]);
        for entry in entries {
            let digest = sanitize(&entry.sha256.unwrap_or_default());
            table.add_row([
                entry.revision.to_string(),
                format!("{:.3}", entry.at),
                sanitize(&if entry.pinned {
                    format!("{}, pinned", entry.event)
                } else {
                    entry.event
                }),
                entry.size.map(|size| size.to_string()).unwrap_or_default(),
                digest.chars().take(16).collect(),
            ]);
        }
        if !table.is_empty() {
            print(format!("{}\n", table.trim_fmt()).as_bytes())?;
        }
        let SourceDetail { status, .. } = client.source(&source).await.map_err(client_error)?;
        let (mut notes, program) = (String::new(), program_name::get());
        if let Some(revision) = status.pinned {
            notes += &format!(
                "\npinned to revision {revision}; unpin with `{program} resume {source}`\n"
            );
        }
        if status.state == "ended" {
            let reason = status.error.unwrap_or_default();
            notes += &format!("\nended: {}\n", sanitize(&reason));
        }
        if let Some(rejected) = client.rejected_value(&source).await.map_err(client_error)? {
            notes += &format!(
                "\nlast rejected value, at {:.3}: {}\nprint it with `{program} history {source} --rejected`\n",
                rejected.at,
                sanitize(&rejected.reason)
            );
        }
        print(notes.as_bytes())
    }
}

/// Prints the last value that validation rejected.
async fn print_rejected(client: &Client, source: &str, json: bool) -> Result<(), CliError> {
    let rejected = client.rejected_value(source).await;
    let rejected = source_result(client, source, rejected)
        .await?
        .ok_or_else(|| CliError::Runtime(format!("source `{source}` has no rejected value")))?;
    if json {
        return print_json(&rejected);
    }
    let content = rejected.content.ok_or_else(|| {
        CliError::Runtime(format!(
            "the content of the rejected value is not stored, since it is secret or larger than 1 MiB; reason for \
             the rejection: {}",
            rejected.reason
        ))
    })?;
    print(&STANDARD.decode(content).map_err(CliError::runtime)?)
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// Name of the source
    source: String,
    /// Revision to roll back to [default: the previous value, which is the newest older revision with another value
    /// than the current revision; if the source is pinned, the pinned revision counts as the current one, so that
    /// repeated rollbacks go further back]
    #[arg(long, value_name = "REVISION")]
    to: Option<u64>,
    #[command(flatten)]
    host: HostArgs,
}

impl RollbackArgs {
    pub(crate) async fn execute(self) -> Result<(), CliError> {
        let client = self.host.client()?;
        let done = client.rollback(&self.source, self.to).await;
        let done = source_result(&client, &self.source, done).await?;
        print(format!("{}\n", sanitize(&done.message)).as_bytes())
    }
}

#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// Name of the source
    source: String,
    #[command(flatten)]
    host: HostArgs,
}

impl SourceArgs {
    pub(crate) async fn resume(self) -> Result<(), CliError> {
        let client = self.host.client()?;
        let done = client.resume(&self.source).await;
        let done = source_result(&client, &self.source, done).await?;
        print(format!("{}\n", sanitize(&done.message)).as_bytes())
    }

    pub(crate) async fn reload(self) -> Result<(), CliError> {
        let client = self.host.client()?;
        let done = client.reload(&self.source).await;
        let done = source_result(&client, &self.source, done).await?;
        print(format!("{}\n", sanitize(&done.message)).as_bytes())
    }
}
