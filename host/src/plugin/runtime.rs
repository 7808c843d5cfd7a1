//! What all plugins share, and how one is loaded.

use super::{
    ArtifactError, Cache, Description, Limits, World, WorldError,
    bindings::exports::reloader::plugin::{reload, watch},
    bundled::bundled,
    instance::Linked,
    ticker::Ticker,
    view::{self, Surroundings, View},
    world,
};
use crate::{
    capability::Grants,
    file::FileWatcher,
    model::SourceName,
    net::{Bounds, Network, Reach},
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use wasmtime::{
    Config, Engine, OptLevel,
    component::{Component, Linker},
};

/// A component larger than this is refused, in bytes.
const COMPONENT_MAX: u64 = 64 << 20;

/// What all plugins share: the compiler, the file watcher, the network. Cheap to clone; a
/// program needs one.
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    linker: Linker<View>,
    ticker: Ticker,
    cache: Cache,
    limits: Limits,
    files: FileWatcher,
    network: Network,
}

/// A plugin that has been loaded. Cheap to clone; any number of sources can be made of it.
#[derive(Clone)]
pub struct Plugin {
    runtime: Runtime,
    description: Arc<Description>,
    world: Arc<World>,
    linked: Linked,
}

/// A plugin could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("plugin `{name}`: {reason}")]
pub struct LoadError {
    /// What was asked for: a name or a path.
    pub name: String,
    /// Why.
    pub reason: LoadReason,
}

/// Why a plugin could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadReason {
    /// Not a bundled plugin, and not a file.
    #[error(
        "there is no such file, and no bundled plugin of this name (there are {})",
        bundled().map(|plugin| plugin.name).collect::<Vec<_>>().join(", ")
    )]
    NotFound,
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Io(io::Error),
    /// The file is too large.
    #[error("it has {size} bytes; the limit is {COMPONENT_MAX}")]
    TooLarge {
        /// Its size, in bytes.
        size: u64,
    },
    /// Not the bytes of a component.
    #[error("{0}")]
    Artifact(#[from] ArtifactError),
    /// A component, but not one for this host.
    #[error("{0}")]
    World(#[from] WorldError),
    /// It cannot be compiled or linked.
    #[error("{0}")]
    Unusable(String),
}

impl Runtime {
    /// With the default limits, keeping compiled plugins in the user's cache directory.
    ///
    /// # Errors
    ///
    /// When the machine cannot run WebAssembly, or has no thread left.
    pub fn new() -> anyhow::Result<Self> {
        Self::with(Cache::user(), Limits::default())
    }

    /// With limits and a cache of one's own.
    ///
    /// # Errors
    ///
    /// When the machine cannot run WebAssembly, or has no thread left.
    pub fn with(cache: Cache, limits: Limits) -> anyhow::Result<Self> {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .cranelift_opt_level(OptLevel::Speed)
            // Seven mappings an instance would meet `vm.max_map_count` at 9,000 instances.
            .memory_init_cow(false)
            .max_wasm_stack(512 << 10)
            .async_stack_size(1 << 20);
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        view::add_to_linker(&mut linker)?;
        let ticker = Ticker::start(&engine)?;
        let (files, network) = (FileWatcher::new(), Network::default());
        let shared = Shared { engine, linker, ticker, cache, limits, files, network };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Loads a plugin: by the name of a bundled one, or from a file (a name with a `/`, or one that
    /// ends in `.wasm`).
    ///
    /// # Errors
    ///
    /// [`LoadError`], which names the plugin.
    pub async fn load(&self, name: &str) -> Result<Plugin, LoadError> {
        let named = |reason| LoadError { name: name.into(), reason };
        if let Some(plugin) = bundled().find(|plugin| plugin.name == name) {
            return self.load_bytes(name, plugin.component.into()).await.map_err(named);
        }
        let looks_like_a_path = name.contains('/') || name.ends_with(".wasm");
        let bytes = match read(name.into()).await {
            Err(LoadReason::Io(error))
                if error.kind() == io::ErrorKind::NotFound && !looks_like_a_path =>
            {
                Err(LoadReason::NotFound)
            }
            other => other,
        };
        let stem = Path::new(name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let called = stem.unwrap_or_else(|| name.to_owned());
        self.load_bytes(&called, bytes.map_err(named)?).await.map_err(named)
    }

    /// Loads a plugin from the bytes of its component. `called` names it if it does not itself.
    ///
    /// # Errors
    ///
    /// [`LoadReason`].
    pub async fn load_bytes(&self, called: &str, bytes: Vec<u8>) -> Result<Plugin, LoadReason> {
        let (runtime, called) = (self.clone(), called.to_owned());
        // Compiling takes its time, and must not take it from whoever serves sources.
        tokio::task::spawn_blocking(move || runtime.compile(&called, &bytes))
            .await
            .unwrap_or_else(|error| Err(LoadReason::Unusable(error.to_string())))
    }

    fn compile(self, called: &str, bytes: &[u8]) -> Result<Plugin, LoadReason> {
        let unusable =
            |error: wasmtime::Error| LoadReason::Unusable(error.root_cause().to_string());
        let description = Description::read(bytes, called)?;
        let Shared { engine, linker, ticker, cache, .. } = &*self.shared;
        let component: Component =
            cache.component(engine, bytes, &description.digest).map_err(unusable)?;
        let world = world::check(&component, engine)?;
        let instance = linker.instantiate_pre(&component).map_err(unusable)?;
        let reload = reload::GuestIndices::new(&instance).map_err(unusable)?;
        let watch = world.can_watch.then(|| watch::GuestIndices::new(&instance)).transpose();
        let linked = Linked {
            engine: engine.clone(),
            ticker: ticker.clone(),
            reload: Arc::new(reload),
            watch: watch.map_err(unusable)?.map(Arc::new),
            instance,
        };
        let (description, world) = (Arc::new(description), Arc::new(world));
        Ok(Plugin { runtime: self, description, world, linked })
    }
}

impl Plugin {
    /// What it says of itself.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// What it needs and can do.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// How much its instances may use.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.runtime.shared.limits
    }

    pub(super) fn linked(&self) -> &Linked {
        &self.linked
    }

    pub(super) fn surroundings(
        &self,
        source: SourceName,
        grants: Grants,
        reach: Reach,
    ) -> Surroundings {
        let Shared { limits, files, network, .. } = &*self.runtime.shared;
        let bounds = Bounds {
            connections: limits.connections,
            connect: limits.connect_timeout,
            total: limits.http_total,
            body: limits.http_body,
        };
        Surroundings {
            source,
            grants,
            limits: limits.clone(),
            files: files.clone(),
            line: network.line(reach, bounds),
        }
    }
}

async fn read(path: PathBuf) -> Result<Vec<u8>, LoadReason> {
    let metadata = tokio::fs::metadata(&path).await.map_err(LoadReason::Io)?;
    if !metadata.is_file() {
        return Err(LoadReason::Io(io::Error::other("it is not a regular file")));
    }
    if metadata.len() > COMPONENT_MAX {
        return Err(LoadReason::TooLarge { size: metadata.len() });
    }
    tokio::fs::read(&path).await.map_err(LoadReason::Io)
}
