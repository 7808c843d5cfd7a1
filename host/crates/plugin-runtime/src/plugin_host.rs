//! What all plugins share, and how one is loaded.

use crate::json_schema::{LARGE_CHECKS_MIB, reserved_mib};
use crate::{
    ArtifactError, Cache, Description, Limits, World, WorldError,
    bundled::bundled,
    compile::{self, Compiler, Workshop},
    exports::Indices,
    imports::{self, View},
    instance::Linked,
    scheduler::{Lanes, epoch::Ticker},
    source_context::Surroundings,
    world,
};
use reloader_engine::types::{Failure, SourceName};
use reloader_fs_watch::{self, FileWatcher};
use reloader_net::{Bounds, Network, Reach};
use reloader_source::metrics::Counters;
use reloader_util::sanitize::sanitize;
use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tracing::info;
use wasmtime::{
    Engine,
    component::{Component, Linker},
};

/// What all plugins share: the compiler, the file watcher, the network. Cheap to clone; a
/// program needs one.
#[derive(Clone)]
pub struct PluginHost {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    linker: Linker<View>,
    lanes: Lanes,
    workshop: Workshop,
    cache: Cache,
    limits: Arc<Limits>,
    files: FileWatcher,
    network: Network,
    /// Memory of large checks against JSON Schemas, in MiB.
    large_checks: Arc<Semaphore>,
}

/// Options of a [`PluginHost`].
///
/// ```
/// use reloader_plugin_runtime::{Cache, Limits, PluginHost};
/// use std::time::Duration;
///
/// let limits = Limits { call_cpu: Duration::from_secs(1), ..Limits::default() };
/// let host = PluginHost::builder().cache(Cache::none()).limits(limits).build()?;
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "the builder does nothing before it is built"]
pub struct PluginHostBuilder {
    compiler: Compiler,
    cache: Cache,
    limits: Limits,
}

impl Default for PluginHostBuilder {
    fn default() -> Self {
        Self { compiler: Compiler::Here, cache: Cache::user(), limits: Limits::default() }
    }
}

impl PluginHostBuilder {
    /// Sets where components are compiled. Default: in this process.
    pub fn compiler(mut self, compiler: Compiler) -> Self {
        self.compiler = compiler;
        self
    }

    /// Sets where compiled plugins are kept. Default: the user's cache directory.
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = cache;
        self
    }

    /// Sets the limits of plugins and their sources. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Starts the threads on which guests run, and returns the plugin host.
    ///
    /// # Errors
    ///
    /// When the system cannot run WebAssembly, or gives no more threads.
    pub fn build(self) -> anyhow::Result<PluginHost> {
        let Self { compiler, cache, limits } = self;
        let engine = compile::engine()?;
        let mut linker = Linker::new(&engine);
        imports::add_to_linker(&mut linker)?;
        let lanes = Lanes::new(Ticker::start(&engine)?);
        let (files, network) = (FileWatcher::new(), Network::default());
        let (workshop, limits) = (Workshop::new(compiler), Arc::new(limits));
        let large_checks = Arc::new(Semaphore::new(LARGE_CHECKS_MIB));
        let shared =
            Shared { engine, linker, lanes, workshop, cache, limits, files, network, large_checks };
        Ok(PluginHost { shared: Arc::new(shared) })
    }
}

/// A plugin that has been loaded. Cheap to clone; any number of sources can be made of it.
#[derive(Clone)]
pub struct Plugin {
    runtime: PluginHost,
    limits: Arc<Limits>,
    description: Arc<Description>,
    world: Arc<World>,
    linked: Arc<Linked>,
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
    #[error("it has {size} bytes; {limit}")]
    TooLarge {
        /// Its size, in bytes.
        size: u64,
        /// The limit, with its name.
        limit: String,
    },
    /// It is made of too many instances.
    #[error("it is made of {}, more than it may be: {limit}", counted(*.instances))]
    TooManyInstances {
        /// Of modules and components.
        instances: u64,
        /// The limit, with its name.
        limit: String,
    },
    /// Its parts are too large.
    #[error(
        "its globals and functions would take up to {} MiB each time it is opened, beside its memory; \
         {limit}",
        bytes.div_ceil(1 << 20)
    )]
    TooHeavy {
        /// How much, in bytes.
        bytes: u64,
        /// The limit, with its name.
        limit: String,
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

/// Whoever waits for a compiler as long as this wants to know what for.
const SLOW: Duration = Duration::from_secs(3);

impl PluginHost {
    /// Returns a plugin host with the default limits that keeps compiled plugins in the user's cache directory
    /// and compiles them in this process.
    ///
    /// # Errors
    ///
    /// When the system cannot run WebAssembly, or gives no more threads.
    pub fn new() -> anyhow::Result<Self> {
        Self::builder().build()
    }

    /// Returns a builder, for other limits, another cache or another compiler.
    #[must_use]
    pub fn builder() -> PluginHostBuilder {
        PluginHostBuilder::default()
    }

    /// Loads a plugin: by the name of a bundled one, or from a file (a name with a `/`, or one that
    /// ends in `.wasm`).
    ///
    /// # Errors
    ///
    /// [`LoadError`], which names the plugin.
    pub async fn load(&self, name: &str) -> Result<Plugin, LoadError> {
        self.load_within(name, &self.shared.limits).await
    }

    /// The same, within limits of its own, which are also those of its sources.
    ///
    /// # Errors
    ///
    /// [`LoadError`], which names the plugin.
    pub async fn load_within(&self, name: &str, limits: &Limits) -> Result<Plugin, LoadError> {
        let named = |reason| LoadError { name: name.into(), reason };
        if let Some(plugin) = bundled().find(|plugin| plugin.name == name) {
            return self.compiled(name, plugin.component.into(), limits).await.map_err(named);
        }
        let (path, within) = (PathBuf::from(name), limits.clone());
        let bytes = match off_the_async_threads(move || read(&path, &within)).await {
            Err(LoadReason::Io(error))
                if error.kind() == io::ErrorKind::NotFound && !is_path(name) =>
            {
                Err(LoadReason::NotFound)
            }
            other => other,
        };
        let stem = Path::new(name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let called = stem.unwrap_or_else(|| name.to_owned());
        self.compiled(&called, bytes.map_err(named)?, limits).await.map_err(named)
    }

    /// Loads a plugin from the bytes of its component. `called` names it if it does not itself.
    ///
    /// # Errors
    ///
    /// [`LoadReason`].
    pub async fn load_bytes(&self, called: &str, bytes: Vec<u8>) -> Result<Plugin, LoadReason> {
        self.compiled(called, bytes, &self.shared.limits).await
    }

    async fn compiled(
        &self,
        called: &str,
        bytes: Vec<u8>,
        limits: &Limits,
    ) -> Result<Plugin, LoadReason> {
        if bytes.len() > limits.component_size {
            return Err(too_large(bytes.len() as u64, limits));
        }
        let bytes: Arc<[u8]> = bytes.into();
        let (cache, engine) = (self.shared.cache.clone(), self.shared.engine.clone());
        let (called, component) = (called.to_owned(), Arc::clone(&bytes));
        let (description, kept) = off_the_async_threads(move || {
            let description = Description::read(&component, &called)?;
            let kept = cache.load(&engine, &description.digest);
            Ok((description, kept))
        })
        .await?;
        if description.instances > u64::from(limits.instances.0) {
            let (instances, limit) = (description.instances, limits.cite("instances"));
            return Err(LoadReason::TooManyInstances { instances, limit });
        }
        if description.weight > limits.memory as u64 {
            let (bytes, limit) = (description.weight, limits.cite("memory"));
            return Err(LoadReason::TooHeavy { bytes, limit });
        }
        if let Some(component) = kept {
            return self.clone().link(description, &component, limits);
        }
        let compiled = self.compile(&description, &bytes, limits).await?;
        let (runtime, limits) = (self.clone(), limits.clone());
        off_the_async_threads(move || {
            let Shared { engine, cache, .. } = &*runtime.shared;
            let component = cache.keep(engine, &description.digest, &compiled);
            let component = component.map_err(|error| LoadReason::Unusable(cause(&error)))?;
            runtime.link(description, &component, &limits)
        })
        .await
    }

    async fn compile(
        &self,
        Description { name, digest, .. }: &Description,
        bytes: &Arc<[u8]>,
        limits: &Limits,
    ) -> Result<Vec<u8>, LoadReason> {
        let Shared { workshop, engine, .. } = &*self.shared;
        let mut compiling = pin!(workshop.compile(engine, digest, bytes, limits));
        let compiled = match timeout(SLOW, &mut compiling).await {
            Ok(compiled) => compiled,
            Err(_) => {
                let limit = limits.cite("compile-time");
                info!("the plugin `{name}` is being compiled, which takes a while: {limit}");
                compiling.await
            }
        };
        compiled.map_err(LoadReason::Unusable)
    }

    fn link(
        self,
        description: Description,
        component: &Component,
        limits: &Limits,
    ) -> Result<Plugin, LoadReason> {
        let unusable = |error: wasmtime::Error| LoadReason::Unusable(cause(&error));
        let Shared { engine, linker, lanes, .. } = &*self.shared;
        let world = world::check(component, engine)?;
        let instance = linker.instantiate_pre(component).map_err(unusable)?;
        let exports = Indices::of(&world, &instance).map_err(unusable)?;
        let linked = Linked { engine: engine.clone(), lanes: lanes.clone(), exports, instance };
        let (description, world) = (Arc::new(description), Arc::new(world));
        let limits = Arc::new(limits.clone());
        Ok(Plugin { runtime: self, limits, description, world, linked: Arc::new(linked) })
    }
}

/// Looking at what a stranger has written takes its time, and must not take it from whoever serves
/// sources.
async fn off_the_async_threads<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LoadReason> + Send + 'static,
) -> Result<T, LoadReason> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(LoadReason::Unusable(error.to_string())))
}

/// All of it: what is wrong, and with which of the imports.
fn cause(error: &wasmtime::Error) -> String {
    sanitize(&format!("{error:#}"))
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

    /// How much its sources may use, unless it is said of one.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The same, to be shared.
    pub(crate) fn shared_limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits)
    }

    pub(crate) fn linked(&self) -> &Arc<Linked> {
        &self.linked
    }

    /// Waits until a check with this memory limit may begin. Small ones need no reservation.
    pub(crate) async fn reserve(
        &self,
        memory: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, Failure> {
        let mib = reserved_mib(memory);
        if mib == 0 {
            return Ok(None);
        }
        let pool = Arc::clone(&self.runtime.shared.large_checks);
        let reserved = pool.acquire_many_owned(mib as u32).await;
        reserved.map(Some).map_err(|error| Failure::transient(error.to_string()))
    }

    pub(crate) fn surroundings(
        &self,
        source: SourceName,
        limits: Arc<Limits>,
        reach: Reach,
        counters: Arc<Counters>,
    ) -> Surroundings {
        let Shared { files, network, .. } = &*self.runtime.shared;
        let bounds = Bounds {
            connections: limits.connections.get(),
            connect: limits.connect_timeout,
            idle: limits.http_idle,
            total: limits.http_total,
            body: limits.http_body,
            head: limits.http_head,
        };
        let line = network.line(reach, bounds);
        Surroundings::new(source, limits, files.clone(), line, counters)
    }
}

/// Whether this names a file, and not a bundled plugin.
#[must_use]
pub fn is_path(name: &str) -> bool {
    name.contains('/') || name.ends_with(".wasm")
}

/// A component from a file, which may be growing, or turn out to be none.
fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>, LoadReason> {
    let file = reloader_fs_watch::open(path).map_err(LoadReason::Io)?;
    let metadata = file.metadata().map_err(LoadReason::Io)?;
    if !metadata.is_file() {
        return Err(LoadReason::Io(io::Error::other("it is not a regular file")));
    }
    if metadata.len() > limits.component_size as u64 {
        return Err(too_large(metadata.len(), limits));
    }
    let mut bytes = Vec::new();
    let mut file = file.take((limits.component_size as u64).saturating_add(1));
    file.read_to_end(&mut bytes).map_err(LoadReason::Io)?;
    Ok(bytes)
}

/// Of millions nobody needs to know how many they are.
fn counted(instances: u64) -> String {
    match instances {
        0..1_000_000 => format!("{instances} instances"),
        _ => "a million instances or more".into(),
    }
}

fn too_large(size: u64, limits: &Limits) -> LoadReason {
    LoadReason::TooLarge { size, limit: limits.cite("component-size") }
}
