//! What a running host is asked: `status`, `get`, `watch`, `history`, `rollback`, `resume`, `reload`.

use super::{Failed, print, print_json, table};
use crate::{
    run::{FormatArg, reader_gone},
    signals::Stop,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use jiff::Timestamp;
use reloader_api_types::{ListedSource, SourceDetail};
use reloader_client::{Client, ClientError, News, Value};
use reloader_delivery::{Format, Stdout};
use reloader_engine::types::{Snapshot, SourceName};
use reloader_source::store::State;
use reloader_util::sanitize::sanitize;
use std::{
    io::{self, BufWriter, ErrorKind, Write},
    path::PathBuf,
};
use tokio::task::spawn_blocking;

/// Which running host.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which host")]
pub(crate) struct Which {
    /// The configuration file of a host that runs on this machine [default: reloader.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address that a host serves at, instead: `http://…`, `https://…` or `unix:PATH` [default: what
    /// `RELOADER_URL` holds, if anything]
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    url: Option<String>,
    /// A file with the token to show there [default: what `RELOADER_TOKEN` holds]
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    token_file: Option<PathBuf>,
    /// Trust the authorities in this PEM file, instead of this machine's
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    ca: Option<PathBuf>,
    /// Show this certificate, a PEM file
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with = "config")]
    cert: Option<PathBuf>,
    /// Its key, a PEM file
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl Which {
    fn client(self) -> Result<Client, Failed> {
        // What is only in the environment gives way to a file that is named.
        let around = || std::env::var("RELOADER_URL").ok().filter(|url| !url.is_empty());
        let url = self.url.or_else(|| self.config.is_none().then(around).flatten());
        let Some(url) = url else {
            if self.token_file.is_some() || self.ca.is_some() || self.cert.is_some() {
                return Err(Failed::Usage(
                    "these are shown to a host at an address: name it with `--url`, or set `RELOADER_URL`"
                        .into(),
                ));
            }
            let config = self.config.unwrap_or_else(|| "reloader.toml".into());
            let socket = reloader_app::running_socket(&config).map_err(Failed::usage)?;
            return Ok(Client::at_socket(&socket));
        };
        let mut client = Client::new(&url).map_err(Failed::usage)?;
        let token = match &self.token_file {
            None => std::env::var("RELOADER_TOKEN").ok(),
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
                Failed::Usage(format!("`{}` (`--token-file`): {error}", path.display()))
            })?),
        };
        if let Some(token) = token.filter(|token| !token.trim().is_empty()) {
            client = client.token(&token).map_err(Failed::usage)?;
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

/// What it refuses, in words for somebody at a command line.
fn failed(error: ClientError) -> Failed {
    match error {
        ClientError::Address { .. } => Failed::usage(error),
        ClientError::NotThere { .. } => Failed::Runtime(format!(
            "{error} (is it running, and with this configuration? A service may keep its state elsewhere: set \
             `path` in `[state]`, or `STATE_DIRECTORY` as the service has it)"
        )),
        ClientError::Refused { status: 401, detail } if detail.starts_with("send ") => {
            Failed::Runtime(
                "it asks for a token: name the file of one with `--token-file`, or set `RELOADER_TOKEN`"
                    .into(),
            )
        }
        other => Failed::runtime(other),
    }
}

/// The same for what is asked of one source: where there is none of this name, others are named.
async fn of_source<T>(
    client: &Client,
    source: &str,
    answer: Result<T, ClientError>,
) -> Result<T, Failed> {
    let error = match answer {
        Ok(answer) => return Ok(answer),
        Err(error) => error,
    };
    let is_unknown = matches!(error, ClientError::Refused { status: 404, .. });
    if is_unknown && let Ok(all) = client.sources().await {
        let names: Vec<_> = all.sources.iter().map(|source| &*source.status.name).collect();
        if !names.is_empty() && !names.contains(&source) {
            let more = names.len().saturating_sub(NAMED);
            let named: Vec<_> =
                names.iter().take(NAMED).map(|name| format!("`{}`", sanitize(name))).collect();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let (verb, named) = (if names.len() == 1 { "is" } else { "are" }, named.join(", "));
            return Err(Failed::Runtime(format!("{error}; there {verb} {named}{more}")));
        }
    }
    Err(failed(error))
}

/// So many sources are named at most.
const NAMED: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

impl StatusArgs {
    pub(crate) async fn execute(self) -> Result<(), Failed> {
        let all = self.which.client()?.sources().await.map_err(failed)?;
        if self.json {
            return print_json(&all);
        }
        let mut table = table();
        table.set_header(["source", "state", "revision", "changed", "delivered", "trouble"]);
        for source in &all.sources {
            table.add_row(row(source));
        }
        for group in &all.groups {
            let (name, sinks) = (&group.name, &group.sinks);
            let trouble = sinks.iter().find_map(|sink| sink.trouble.as_deref());
            let arrived = sinks.iter().filter(|sink| sink.revision.is_some()).count();
            table.add_row([
                format!("[{}]", sanitize(name)),
                "group".into(),
                String::new(),
                String::new(),
                format!("{arrived}/{}", sinks.len()),
                sanitize(trouble.unwrap_or_default()),
            ]);
        }
        let mut shown = format!("{}\n", table.trim_fmt());
        if let Some(trouble) = &all.config_trouble {
            let lines: Vec<_> =
                trouble.lines().map(|line| format!("  {}\n", sanitize(line))).collect();
            shown += "\nthe configuration file cannot be used as it is now, and the one before counts:\n";
            shown += &lines.concat();
        }
        print(shown.as_bytes())
    }
}

fn row(source: &ListedSource) -> [String; 6] {
    let status = &source.status;
    let sinks = &status.sinks;
    let is_there = |revision: Option<u64>| revision == Some(status.revision);
    let there = sinks.iter().filter(|sink| is_there(sink.revision)).count();
    let of_sinks = || {
        let sink = sinks.iter().find(|sink| sink.trouble.is_some())?;
        Some(format!("sink `{}`: {}", sink.name, sink.trouble.as_deref().unwrap_or_default()))
    };
    let trouble = status.trouble.clone().or_else(of_sinks).unwrap_or_default();
    let state = match status.pinned {
        Some(revision) => format!("{}, pinned to {revision}", status.state),
        None => status.state.clone(),
    };
    [
        sanitize(&status.name),
        sanitize(&state),
        status.revision.to_string(),
        status.at.map(ago).unwrap_or_default(),
        if sinks.is_empty() { String::new() } else { format!("{there}/{}", sinks.len()) },
        sanitize(&trouble),
    ]
}

/// How long ago something was, to the two largest units.
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
    /// The source's name
    source: String,
    /// Print the value of this revision instead
    #[arg(long, value_name = "REVISION")]
    revision: Option<u64>,
    #[command(flatten)]
    which: Which,
}

impl GetArgs {
    pub(crate) async fn execute(self) -> Result<(), Failed> {
        let client = self.which.client()?;
        let value = client.value(&self.source, self.revision).await;
        let value = of_source(&client, &self.source, value).await?;
        print(&value.content)
    }
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The source's name
    source: String,
    /// `json`: one object a line, as `host run` prints it; `raw`: the content alone
    #[arg(long, value_enum, default_value = "json")]
    format: FormatArg,
    #[command(flatten)]
    which: Which,
}

impl WatchArgs {
    pub(crate) async fn execute(self) -> Result<(), Failed> {
        let client = self.which.client()?;
        let mut stop = Stop::listen()?;
        tokio::select! {
            ended = print_each(&client, &self.source, self.format.into()) => ended,
            () = stop.wait() => Ok(()),
            // `host watch … | head -n 1` has had what it wanted.
            () = reader_gone() => Ok(()),
        }
    }
}

async fn print_each(client: &Client, source: &str, format: Format) -> Result<(), Failed> {
    let mut watching = client.watch(source);
    loop {
        let news = watching.next().await;
        let state = match of_source(client, source, news).await? {
            News::Value(value) => state(value),
            News::Removed { revision, at } => {
                State { revision: revision.into(), at: at.unwrap_or_default(), ..State::default() }
            }
        };
        // What is new has been decided already, whatever was printed before.
        let mut printer = Stdout::new(SourceName::new(source), format);
        // A pipe that nobody empties blocks this thread, and nobody else.
        let written = spawn_blocking(move || {
            let mut out = BufWriter::new(io::stdout().lock());
            printer.write(state, &mut out).and_then(|()| out.flush())
        });
        match written.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(|error| {
                Failed::Runtime(format!("cannot write to standard output: {error}"))
            })?,
        }
    }
}

fn state(value: Value) -> State {
    let snapshot = Snapshot {
        content: value.content,
        media_type: value.media_type.map(Into::into),
        cursor: None,
    };
    State {
        revision: value.revision.into(),
        value: Some(snapshot),
        at: value.at.unwrap_or_default(),
        ..State::default()
    }
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The source's name
    source: String,
    /// Print the content of this revision instead, exactly
    #[arg(long, value_name = "REVISION")]
    show: Option<u64>,
    /// Print the content that was refused last instead, exactly
    #[arg(long, conflicts_with = "show")]
    refused: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "show")]
    json: bool,
    #[command(flatten)]
    which: Which,
}

impl HistoryArgs {
    pub(crate) async fn execute(self) -> Result<(), Failed> {
        let (client, source) = (self.which.client()?, self.source);
        if self.show.is_some() {
            let value = client.value(&source, self.show).await;
            let value = of_source(&client, &source, value).await?;
            return print(&value.content);
        }
        if self.refused {
            return refused(&client, &source, self.json).await;
        }
        let history = client.history(&source).await;
        let entries = of_source(&client, &source, history).await?.revisions;
        if self.json {
            return print_json(&entries);
        }
        if entries.is_empty() {
            print(format!("source `{source}` has had no value yet\n").as_bytes())?;
        }
        let mut table = table();
        table.set_header(["revision", "at", "event", "bytes", "sha256"]);
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
        let SourceDetail { status, .. } = client.source(&source).await.map_err(failed)?;
        let mut notes = String::new();
        if let Some(revision) = status.pinned {
            notes += &format!(
                "\npinned to revision {revision}: `host resume {source}` follows the source again\n"
            );
        }
        if status.state == "ended" {
            let why = status.trouble.unwrap_or_default();
            notes += &format!("\nended: {}\n", sanitize(&why));
        }
        if let Some(refused) = client.refused(&source).await.map_err(failed)? {
            notes += &format!(
                "\nrefused last, at {:.3}: {}\n`host history {source} --refused` prints it\n",
                refused.at,
                sanitize(&refused.reason)
            );
        }
        print(notes.as_bytes())
    }
}

/// What was not let through last.
async fn refused(client: &Client, source: &str, json: bool) -> Result<(), Failed> {
    let refused = client.refused(source).await;
    let refused = of_source(client, source, refused).await?.ok_or_else(|| {
        Failed::Runtime(format!("no value of source `{source}` has been refused"))
    })?;
    if json {
        return print_json(&refused);
    }
    let content = refused.content.ok_or_else(|| {
        Failed::Runtime(format!(
            "the content is not stored, since it is secret or larger than 1 MiB; it was refused since {}",
            refused.reason
        ))
    })?;
    print(&STANDARD.decode(content).map_err(Failed::runtime)?)
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The source's name
    source: String,
    /// The revision to go back to [default: the one before the present one]
    #[arg(long, value_name = "REVISION")]
    to: Option<u64>,
    #[command(flatten)]
    which: Which,
}

impl RollbackArgs {
    pub(crate) async fn execute(self) -> Result<(), Failed> {
        let client = self.which.client()?;
        let done = client.rollback(&self.source, self.to).await;
        let done = of_source(&client, &self.source, done).await?;
        print(format!("{}\n", sanitize(&done.message)).as_bytes())
    }
}

#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// The source's name
    source: String,
    #[command(flatten)]
    which: Which,
}

impl SourceArgs {
    pub(crate) async fn resume(self) -> Result<(), Failed> {
        let client = self.which.client()?;
        let done = client.resume(&self.source).await;
        let done = of_source(&client, &self.source, done).await?;
        print(format!("{}\n", sanitize(&done.message)).as_bytes())
    }

    pub(crate) async fn reload(self) -> Result<(), Failed> {
        let client = self.which.client()?;
        let done = client.reload(&self.source).await;
        let done = of_source(&client, &self.source, done).await?;
        print(format!("{}\n", sanitize(&done.message)).as_bytes())
    }
}
