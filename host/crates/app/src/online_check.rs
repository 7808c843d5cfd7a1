//! `host check --online`: reads each prepared source once.

use crate::{config::SourceConfig, prepare::Prepared};
use reloader_engine::types::Outcome;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::timeout};

/// Maximum number of sources that [`check_online`] opens at the same time.
const MAX_CONCURRENT_CHECKS: usize = 16;

/// Result of the check of one source: the host has read it once.
#[derive(Debug)]
pub struct SourceCheck {
    /// Name of the source.
    pub name: String,
    /// Name or path of the plugin.
    pub plugin: String,
    /// Duration of the read.
    pub took: Duration,
    /// Size of the value in bytes, or the error.
    pub answer: Result<usize, String>,
}

/// Reads each source once, up to 16 at the same time. `limit` is the timeout of each read.
pub async fn check_online(sources: &[Prepared], limit: Duration) -> Vec<SourceCheck> {
    let mut checks = BTreeMap::new();
    let mut running = JoinSet::new();
    let mut waiting = sources.iter().cloned().enumerate();
    loop {
        while running.len() < MAX_CONCURRENT_CHECKS
            && let Some((index, source)) = waiting.next()
        {
            running.spawn(async move { (index, read_once(source, limit).await) });
        }
        match running.join_next().await {
            Some(Ok((index, check))) => {
                checks.insert(index, check);
            }
            Some(Err(_)) => {}
            None => return checks.into_values().collect(),
        }
    }
}

async fn read_once(source: Prepared, limit: Duration) -> SourceCheck {
    let start = Instant::now();
    let read = async {
        let provider = source.builder.provider_off_thread().await;
        let provider = provider.map_err(|error| error.to_string())?;
        match provider.reader().read(None).await {
            Ok(Outcome::Changed(value)) => Ok(value.content.len()),
            Ok(Outcome::Absent) => Err("the source has no value".into()),
            Ok(Outcome::Unchanged) => {
                Err("the plugin reported `unchanged` for the first read".into())
            }
            Err(failure) => Err(failure.to_string()),
        }
    };
    let answer = timeout(limit, read).await;
    let answer = answer.unwrap_or_else(|_| Err(format!("no response within {limit:?}")));
    let SourceConfig { name, plugin, .. } = &*source.config;
    SourceCheck { name: name.to_string(), plugin: plugin.clone(), took: start.elapsed(), answer }
}
