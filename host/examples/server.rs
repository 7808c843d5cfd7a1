//! Example: TCP server whose configuration is reloaded while it runs.
//!
//! The server sends a greeting to each client. `listen`, `greeting` and `connections` can be changed at any time. An
//! invalid configuration is ignored, and the last good one stays in effect.
//!
//! ```sh
//! printf 'listen = "127.0.0.1:7000"\ngreeting = "hello"\nconnections = 2\n' > server.toml
//! cargo run -p reloader-host --features bundled --example server -- --config server.toml --watch-mode hybrid
//! nc 127.0.0.1 7000
//! ```
//!
//! With `--plugin`, the sandboxed plugin `file` reads the file, and the reloader has the type [`PluginReloader`].
#![allow(clippy::print_stderr, reason = "a command-line example")]

use async_trait::async_trait;
use clap::{Parser, ValueEnum};
use reloader_host::{
    AsyncFileLoad, FileReloader, PluginHost, PluginReloader, RealtimeWatch, Reload, ReloaderConfig,
    ReloaderReceiver, ReloaderService,
};
use serde::Deserialize;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// TCP server that sends a greeting to each client
#[derive(Parser)]
struct Args {
    /// Configuration file in TOML
    #[arg(long)]
    config: String,
    /// Update strategy for the configuration file
    #[arg(long, value_enum, default_value = "hybrid")]
    watch_mode: WatchMode,
    /// Read the configuration file with the sandboxed plugin `file`
    #[arg(long)]
    plugin: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum WatchMode {
    Polling,
    Realtime,
    Hybrid,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerConfig {
    listen: SocketAddr,
    greeting: String,
    /// Maximum number of concurrent greetings.
    connections: usize,
}

fn parse(text: &str) -> anyhow::Result<ServerConfig> {
    Ok(toml::from_str(text)?)
}

impl TryFrom<&PathBuf> for ServerConfig {
    type Error = anyhow::Error;

    fn try_from(path: &PathBuf) -> anyhow::Result<Self> {
        parse(&std::fs::read_to_string(path)?)
    }
}

#[async_trait]
impl AsyncFileLoad for ServerConfig {
    type Error = anyhow::Error;

    async fn async_load_from<T: AsRef<Path> + Send>(path: T) -> anyhow::Result<Self> {
        parse(&tokio::fs::read_to_string(path).await?)
    }
}

type Receiver = ReloaderReceiver<ServerConfig, String>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let args = Args::parse();
    let config = match args.watch_mode {
        WatchMode::Polling => ReloaderConfig::polling(1),
        WatchMode::Realtime => ReloaderConfig::realtime(),
        WatchMode::Hybrid => ReloaderConfig::hybrid(1),
    };
    let receiver = if args.plugin {
        let plugin = PluginHost::new()?.load("file").await?;
        let source = plugin.source("server").set("path", args.config);
        start_reloader::<PluginReloader<ServerConfig>>(&source, config).await?
    } else {
        start_reloader::<FileReloader<ServerConfig>>(&args.config, config).await?
    };
    serve(receiver).await
}

/// Starts a task that keeps the configuration up to date.
async fn start_reloader<T>(source: &T::Source, config: ReloaderConfig) -> anyhow::Result<Receiver>
where
    T: RealtimeWatch<ServerConfig, String> + Clone + Send + Sync + 'static,
    T: Reload<ServerConfig, String>,
{
    let (service, receiver) =
        ReloaderService::<T, ServerConfig, String>::new(source, config).await?;
    tokio::spawn(async move {
        if let Err(error) = service.start_with_realtime().await {
            tracing::error!(%error, "configuration reload stopped");
        }
    });
    Ok(receiver)
}

async fn serve(mut receiver: Receiver) -> anyhow::Result<()> {
    receiver.changed().await?;
    let mut config = receiver.get();
    let mut listener = None;
    let mut connections = 0;
    let mut permits = Arc::new(Semaphore::new(connections));
    loop {
        if let Some(config) = &config {
            listener = bind_or_keep(listener, config.listen).await;
            if connections != config.connections {
                connections = config.connections;
                permits = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
            }
        }
        let greeting = config.as_ref().map(|config| config.greeting.clone()).unwrap_or_default();
        loop {
            tokio::select! {
                accepted = accept(listener.as_ref()) => match accepted {
                    Ok((stream, _)) => {
                        tokio::spawn(greet(stream, greeting.clone(), Arc::clone(&permits)));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "accept failed");
                        // Waits before the next attempt: an error such as too many open files does not pass at once.
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                },
                changed = receiver.changed() => {
                    changed?; // The service has stopped.
                    break;
                }
                _ = tokio::signal::ctrl_c() => return Ok(()),
            }
        }
        // `get` returns `None` after the file is removed. The last configuration then stays in effect.
        config = receiver.get().or(config);
    }
}

/// Returns a listener on this address, or the current listener if the address cannot be bound.
async fn bind_or_keep(current: Option<TcpListener>, address: SocketAddr) -> Option<TcpListener> {
    let is_bound =
        |listener: &TcpListener| listener.local_addr().is_ok_and(|bound| bound == address);
    if current.as_ref().is_some_and(is_bound) {
        return current;
    }
    match TcpListener::bind(address).await {
        Ok(listener) => {
            eprintln!("listening on {address}");
            Some(listener)
        }
        Err(error) => {
            tracing::error!(%address, %error, "cannot listen, keeping the previous address");
            current
        }
    }
}

/// Accepts a connection. Never completes if there is no listener.
async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn greet(mut stream: TcpStream, greeting: String, permits: Arc<Semaphore>) {
    let Ok(_permit) = permits.acquire().await else { return };
    // A client may close the connection early.
    let _ = stream.write_all(format!("{greeting}\n").as_bytes()).await;
}
