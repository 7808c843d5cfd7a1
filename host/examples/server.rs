//! A small service whose configuration is reloaded while it runs.
//!
//! It greets whoever connects. `listen`, `greeting` and `connections` can be changed at any time; a
//! configuration that does not fit is refused, and the last good one stays.
//!
//! ```sh
//! printf 'listen = "127.0.0.1:7000"\ngreeting = "hello"\nconnections = 2\n' > server.toml
//! cargo run -p reloader-host --features bundled --example server -- --config server.toml --watch-mode hybrid
//! nc 127.0.0.1 7000
//! ```
//!
//! With `--plugin` the file is read by the sandboxed plugin `file` instead of natively: one type is
//! another, and nothing else changes.
#![allow(clippy::print_stderr, reason = "an example talks to who tries it")]

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

/// Greets whoever connects.
#[derive(Parser)]
struct Args {
    /// The configuration, a TOML file
    #[arg(long)]
    config: String,
    /// How its changes are noticed
    #[arg(long, value_enum, default_value = "hybrid")]
    watch_mode: WatchMode,
    /// Read it through the sandboxed plugin `file`
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
    /// How many are greeted at the same time.
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
        kept_up_to_date::<PluginReloader<ServerConfig>>(&source, config).await?
    } else {
        kept_up_to_date::<FileReloader<ServerConfig>>(&args.config, config).await?
    };
    serve(receiver).await
}

/// Keeps the configuration up to date in the background.
async fn kept_up_to_date<T>(source: &T::Source, config: ReloaderConfig) -> anyhow::Result<Receiver>
where
    T: RealtimeWatch<ServerConfig, String> + Clone + Send + Sync + 'static,
    T: Reload<ServerConfig, String>,
{
    let (service, receiver) =
        ReloaderService::<T, ServerConfig, String>::new(source, config).await?;
    tokio::spawn(async move {
        if let Err(error) = service.start_with_realtime().await {
            tracing::error!("the configuration is not kept up to date any more: {error}");
        }
    });
    Ok(receiver)
}

async fn serve(mut receiver: Receiver) -> anyhow::Result<()> {
    receiver.changed().await?;
    let mut config = receiver.get();
    let mut listener = None;
    let mut connections = 0;
    let mut greeted = Arc::new(Semaphore::new(connections));
    loop {
        if let Some(config) = &config {
            listener = listening(listener, config.listen).await;
            if connections != config.connections {
                connections = config.connections;
                greeted = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
            }
        }
        let greeting = config.as_ref().map(|config| config.greeting.clone()).unwrap_or_default();
        loop {
            tokio::select! {
                accepted = accepted(listener.as_ref()) => match accepted {
                    Ok((stream, _)) => {
                        tokio::spawn(greet(stream, greeting.clone(), Arc::clone(&greeted)));
                    }
                    Err(error) => {
                        tracing::warn!("a connection was not accepted: {error}");
                        // Such as for want of descriptors, which will be free again.
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
        // `None` when the file is gone for good: go on with what is known.
        config = receiver.get().or(config);
    }
}

/// A listener at this address: the present one if it is, or if there can be no other.
async fn listening(present: Option<TcpListener>, at: SocketAddr) -> Option<TcpListener> {
    if present.as_ref().is_some_and(|listener| listener.local_addr().is_ok_and(|is| is == at)) {
        return present;
    }
    match TcpListener::bind(at).await {
        Ok(listener) => {
            eprintln!("listening at {at}");
            Some(listener)
        }
        Err(error) => {
            tracing::error!("cannot listen at {at}: {error}");
            present
        }
    }
}

async fn accepted(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn greet(mut stream: TcpStream, greeting: String, greeted: Arc<Semaphore>) {
    let Ok(_permit) = greeted.acquire().await else { return };
    // Somebody who does not listen is not insisted on.
    let _ = stream.write_all(format!("{greeting}\n").as_bytes()).await;
}
