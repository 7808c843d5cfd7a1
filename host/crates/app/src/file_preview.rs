//! Preview of the files of a configuration: reads each source once, and returns what the sinks would write.

use crate::{
    app::{App, ControlRequest},
    config::{Config, sink_name},
    one_time_delivery::Unfinished,
    prepare::Prepared,
};
use bytes::Bytes;
use reloader_delivery::{Part, SinkSettings, Update};
use reloader_engine::types::SourceName;
use reloader_plugin_runtime::PluginHost;
use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// Content that a sink would write to its file.
#[derive(Debug)]
pub struct FilePreview {
    /// Name of the sink: that of its source or group, and its own.
    pub sink: String,
    /// Path of the file.
    pub path: PathBuf,
    /// The content; `None` if the file would be removed. Otherwise the error.
    pub content: Result<Option<Bytes>, String>,
}

/// Reads each source once, and returns what each sink that writes a file would write. Delivers nothing and does not access
/// the state directory. Only the commands that validate values run. `limit` is the time limit of the reads.
///
/// # Errors
///
/// A source cannot be started.
pub async fn preview_files(
    runtime: PluginHost,
    mut config: Config,
    mut prepared: Vec<Prepared>,
    limit: Duration,
) -> anyhow::Result<Vec<FilePreview>> {
    let wanted = owners(&config);
    for source in config.sources.iter_mut().chain(prepared.iter_mut().map(|it| &mut it.config)) {
        Arc::make_mut(source).sinks.clear();
    }
    config.groups.clear();
    config.command = None;
    config.state.enabled = false;
    let app = App::start(runtime, config, prepared).await?.without_reloads();
    let handle = app.handle();
    let unfinished = handle.delivered_once(limit).await;
    let mut parts = HashMap::new();
    for name in handle.source_names() {
        let state = handle.subscribe(name.as_str()).map(|mut values| values.state());
        // A removed value leaves the file as it is, unless the sink has `on-removed = "clear"`.
        let Some(state) = state.filter(|state| state.value.is_some()) else {
            continue;
        };
        let (revision, at) = (state.revision, state.at);
        let (stale, value) = (state.stale, state.value);
        parts.insert(name.clone(), Part { source: name, revision, at, stale, value });
    }
    let (stop, requests) = mpsc::channel(1);
    let _ = stop.send(ControlRequest::Stop).await;
    app.run(requests).await;
    let mut previews = Vec::new();
    for owner in &wanted {
        for (index, settings) in owner.sinks.iter().enumerate() {
            let Some(path) = settings.writes_to() else { continue };
            previews.push(FilePreview {
                sink: format!("{}/{}", owner.name, sink_name(settings, index)),
                path: path.to_owned(),
                content: owner.render(settings, &parts, &unfinished).await,
            });
        }
    }
    Ok(previews)
}

/// Sinks of a source or group.
struct Owner {
    name: String,
    /// The sources, and whether each is required.
    sources: Vec<(SourceName, bool)>,
    sinks: Vec<SinkSettings>,
}

/// Returns the sources and the groups with their sinks.
fn owners(config: &Config) -> Vec<Owner> {
    let of_sources = config.sources.iter().map(|source| Owner {
        name: source.name.to_string(),
        sources: vec![(source.name.clone(), true)],
        sinks: source.sinks.clone(),
    });
    let of_groups = config.groups.iter().map(|group| Owner {
        name: format!("group/{}", group.name),
        sources: group
            .sources
            .iter()
            .map(|name| (name.clone(), !group.optional.contains(name)))
            .collect(),
        sinks: group.sinks.clone(),
    });
    of_sources.chain(of_groups).collect()
}

impl Owner {
    /// Returns the content that the sink writes for these values.
    async fn render(
        &self,
        settings: &SinkSettings,
        values: &HashMap<SourceName, Part>,
        unfinished: &[Unfinished],
    ) -> Result<Option<Bytes>, String> {
        let mut parts = Vec::new();
        for (name, is_required) in &self.sources {
            match values.get(name) {
                Some(part) => parts.push(part.clone()),
                None if *is_required => {
                    let display = format!("source `{name}`");
                    let failure = unfinished.iter().find(|it| it.name == display);
                    return Err(match failure {
                        Some(failure) => failure.to_string(),
                        None => format!("{display}: no value"),
                    });
                }
                None => parts.push(Part::absent(name.clone())),
            }
        }
        let sink = settings.build(&self.name).map_err(|error| error.to_string())?;
        sink.preview(&Update::new(parts)).await.map_err(|error| error.to_string())
    }
}
