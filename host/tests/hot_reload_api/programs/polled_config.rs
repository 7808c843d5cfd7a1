//! Server that polls its configuration. Its main loop is a `select!` over a timer and the changes.

use super::hot_reload::*;
use async_trait::async_trait;
use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    port: u16,
    name: String,
}

fn config_object_from_str(text: &str) -> Result<ServerConfig, &'static str> {
    let mut config = ServerConfig { port: 0, name: String::new() };
    for line in text.lines() {
        let (key, value) = line.split_once('=').ok_or("no `=`")?;
        match key.trim() {
            "port" => config.port = value.trim().parse().map_err(|_| "not a port")?,
            "name" => config.name = value.trim().to_owned(),
            _ => return Err("unknown key"),
        }
    }
    Ok(config)
}

#[derive(Clone)]
pub struct ConfigReloader {
    pub config_path: PathBuf,
}

#[async_trait]
impl Reload<ServerConfig> for ConfigReloader {
    type Source = String;

    async fn new(source: &Self::Source) -> ReloadResult<Self, ServerConfig> {
        Ok(Self { config_path: PathBuf::from(source) })
    }

    async fn reload(&self) -> ReloadResult<Option<ServerConfig>, ServerConfig> {
        let text = std::fs::read_to_string(&self.config_path)
            .map_err(|_| ReloaderError::Reload("Failed to read config file"))?;
        let config = config_object_from_str(&text).map_err(ReloaderError::Reload)?;
        Ok(Some(config))
    }
}

struct Server {
    rx: ReloaderReceiver<ServerConfig>,
    served: Vec<ServerConfig>,
}

impl Server {
    async fn serve(mut self, until: u16) -> Vec<ServerConfig> {
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(1));
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = self.rx.changed() => {
                    if let Some(value) = self.rx.get() {
                        let port = value.port;
                        self.served.push(value);
                        if port == until {
                            return self.served;
                        }
                    } else {
                        break; // Service terminated
                    }
                }
                else => break
            }
        }
        self.served
    }
}

#[tokio::test]
async fn valid_configurations_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config").display().to_string();
    std::fs::write(&path, "port = 1\nname = a").unwrap();
    let (service, rx) =
        ReloaderService::<ConfigReloader, ServerConfig>::with_delay(&path, 0).await.unwrap();
    assert_eq!(*rx.borrow(), None);
    let mut seen = rx.clone();
    let service = tokio::spawn(async move { service.start().await });
    let server = tokio::spawn(Server { rx, served: Vec::new() }.serve(3));
    for text in ["nonsense", "port = 2\nname = b", "port = x", "port = 3\nname = c"] {
        if seen.get().is_none() {
            seen.changed().await.unwrap();
        }
        std::fs::write(&path, text).unwrap();
        if config_object_from_str(text).is_ok() {
            seen.changed().await.unwrap();
        }
    }
    let ports: Vec<u16> = server.await.unwrap().iter().map(|config| config.port).collect();
    assert_eq!(ports.last(), Some(&3));
    assert!(ports.is_sorted(), "{ports:?}");
    service.abort();
}

#[tokio::test]
async fn default_configuration_polls() {
    let source = "nowhere".to_owned();
    let (service, rx) =
        ReloaderService::<ConfigReloader, ServerConfig>::with_defaults(&source).await.unwrap();
    assert!(rx.get().is_none());
    drop(service);
}

#[tokio::test]
async fn start_without_realtime_rejects_watch_strategies() {
    let source = "nowhere".to_owned();
    for config in [ReloaderConfig::realtime(), ReloaderConfig::hybrid(1)] {
        let (service, _rx) =
            ReloaderService::<ConfigReloader, ServerConfig>::new(&source, config).await.unwrap();
        assert!(matches!(service.start().await, Err(ReloaderError::Other(_))));
    }
}

#[test]
fn configuration_is_a_plain_struct() {
    let config =
        ReloaderConfig { watch_delay_sec: 5, force_reload: true, strategy: WatchStrategy::Hybrid };
    let copy = config.clone();
    assert_eq!(copy.watch_delay_sec, 5);
    let default = ReloaderConfig { force_reload: true, ..Default::default() };
    assert_eq!(default.watch_delay_sec, 10);
    assert_eq!(default.strategy, WatchStrategy::default());
    assert_eq!(WatchStrategy::default(), WatchStrategy::Polling);
    assert_eq!(ReloaderConfig::polling(7).watch_delay_sec, 7);
    assert_eq!(ReloaderConfig::realtime().strategy, WatchStrategy::Realtime);
    assert_eq!(ReloaderConfig::hybrid(9).watch_delay_sec, 9);
    assert!(!ReloaderConfig::hybrid(9).force_reload);
    assert!(format!("{config:?}").contains("Hybrid"));
}
