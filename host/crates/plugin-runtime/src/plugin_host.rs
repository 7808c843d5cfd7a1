//! Plugin host: the state that all plugins share, and the loading of plugins.

use crate::{
    address_space,
    bundled::bundled,
    compile_cache::{Cache, deserialize_compiled},
    compile_queue::CompileQueue,
    compiler::Compiler,
    export_lookup::ExportIndices,
    imports::{self, host_state::HostState},
    instance::Linked,
    json_schema_memory::LargeChecks,
    limits::Limits,
    load_error::{LoadError, LoadReason},
    load_threads::{access_files, run},
    scheduler::{Scheduler, epoch_interruption::EpochTicker},
    source_context::SourceContext,
    wasmtime_engine::engine,
    world_check::{self, World},
};
use reloader_component_metadata::{Description, StaticCost};
use reloader_engine::types::SourceName;
use reloader_fs_watch::FileWatcher;
use reloader_net::{EgressLimits, EgressSettings, Network};
use reloader_source::metrics::Counters;
use reloader_util::sanitize::sanitize;
use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::time::timeout;
use tracing::info;
use wasmtime::{
    Engine,
    component::{Component, Linker},
};

/// Plugin host: the compiler, the file watcher and the network, which all plugins share. Cheap to clone. A program
/// needs only one.
#[derive(Clone)]
pub struct PluginHost {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    linker: Linker<HostState>,
    scheduler: Scheduler,
    compile_queue: CompileQueue,
    cache: Cache,
    limits: Arc<Limits>,
    files: FileWatcher,
    network: Network,
    large_checks: LargeChecks,
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
        Self { compiler: Compiler::InProcess, cache: Cache::user(), limits: Limits::default() }
    }
}

impl PluginHostBuilder {
    /// Sets where components are compiled. Default: in this process.
    pub fn compiler(mut self, compiler: Compiler) -> Self {
        self.compiler = compiler;
        self
    }

    /// Sets the cache of compiled plugins. Default: in the user's cache directory.
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
    /// Fails if the system cannot run WebAssembly or cannot start threads, or if too little address space is left.
    pub fn build(self) -> anyhow::Result<PluginHost> {
        let Self { compiler, cache, limits } = self;
        if let Err(exhausted) = address_space::check_available(0) {
            anyhow::bail!("no memory for plugins: {exhausted}");
        }
        let engine = engine()?;
        let mut linker = Linker::new(&engine);
        imports::add_to_linker(&mut linker)?;
        let scheduler = Scheduler::new(EpochTicker::start(&engine)?);
        let (files, network) = (FileWatcher::new(), Network::default());
        let (compile_queue, limits) = (CompileQueue::new(compiler), Arc::new(limits));
        let large_checks = LargeChecks::default();
        let shared = Shared {
            engine,
            linker,
            scheduler,
            compile_queue,
            cache,
            limits,
            files,
            network,
            large_checks,
        };
        Ok(PluginHost { shared: Arc::new(shared) })
    }
}

/// Loaded plugin. Cheap to clone. Any number of sources can use it.
#[derive(Clone)]
pub struct Plugin {
    host: PluginHost,
    limits: Arc<Limits>,
    description: Arc<Description>,
    world: Arc<World>,
    linked: Arc<Linked>,
}

/// Duration of a running compilation after which the host logs that the compilation is slow.
const SLOW_COMPILE_THRESHOLD: Duration = Duration::from_secs(3);

impl PluginHost {
    /// Returns a plugin host with the defaults of [`PluginHostBuilder`]: default limits, a cache in the user's cache
    /// directory, and compilation in this process.
    ///
    /// # Errors
    ///
    /// Fails if the system cannot run WebAssembly or cannot start threads.
    pub fn new() -> anyhow::Result<Self> {
        Self::builder().build()
    }

    /// Returns a builder, which can change the default settings.
    pub fn builder() -> PluginHostBuilder {
        PluginHostBuilder::default()
    }

    /// Loads a bundled plugin by its name, or a plugin from a file. A name that contains `/` or ends in `.wasm` is a
    /// path.
    ///
    /// # Errors
    ///
    /// [`LoadError`], which names the plugin.
    pub async fn load(&self, name: &str) -> Result<Plugin, LoadError> {
        self.load_within(name, &self.shared.limits).await
    }

    /// Loads a plugin with these limits, which are also the default of its sources.
    ///
    /// # Errors
    ///
    /// [`LoadError`], which names the plugin.
    pub async fn load_within(&self, name: &str, limits: &Limits) -> Result<Plugin, LoadError> {
        let named = |reason| LoadError { name: name.into(), reason };
        if let Some(plugin) = bundled().find(|plugin| plugin.name == name) {
            return self.load_component(name, plugin.component.into(), limits).await.map_err(named);
        }
        let (path, read_limits) = (PathBuf::from(name), limits.clone());
        let read = access_files(move || read_component(&path, &read_limits)).await;
        let bytes = match read.unwrap_or_else(|error| Err(LoadReason::Io(error))) {
            Err(LoadReason::Io(error))
                if error.kind() == io::ErrorKind::NotFound && !is_path(name) =>
            {
                Err(LoadReason::NotFound)
            }
            other => other,
        };
        let stem = Path::new(name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let default_name = stem.unwrap_or_else(|| name.to_owned());
        self.load_component(&default_name, bytes.map_err(named)?, limits).await.map_err(named)
    }

    /// Loads a plugin from the bytes of its component. `default_name` is used if the component has no name.
    ///
    /// # Errors
    ///
    /// [`LoadReason`].
    pub async fn load_bytes(
        &self,
        default_name: &str,
        bytes: Vec<u8>,
    ) -> Result<Plugin, LoadReason> {
        self.load_component(default_name, bytes, &self.shared.limits).await
    }

    /// Checks the size and the static cost of a component, compiles it unless it is cached, and links it.
    async fn load_component(
        &self,
        default_name: &str,
        bytes: Vec<u8>,
        limits: &Limits,
    ) -> Result<Plugin, LoadReason> {
        if bytes.len() > limits.component_size {
            return Err(LoadReason::too_large(bytes.len() as u64, limits));
        }
        let bytes: Arc<[u8]> = bytes.into();
        let (default_name, component) = (default_name.to_owned(), Arc::clone(&bytes));
        let description = run(move || Ok(Description::read(&component, &default_name)?)).await?;
        check_static_cost(description.static_cost, limits)?;
        let Shared { engine, cache, .. } = &*self.shared;
        let (host, digest) = (self.clone(), description.digest.clone());
        let limits_of_plugin = limits.clone();
        if let Some(component) = cache.load(engine, &digest).await {
            return run(move || host.link(description, &component, &limits_of_plugin)).await;
        }
        let compiled: Arc<[u8]> = self.compile(&description, &bytes, limits).await?.into();
        cache.store(engine, &digest, &compiled).await;
        run(move || {
            let component = deserialize_compiled(&host.shared.engine, &compiled);
            let component = component.map_err(|error| LoadReason::Unusable(error_chain(&error)))?;
            host.link(description, &component, &limits_of_plugin)
        })
        .await
    }

    async fn compile(
        &self,
        Description { name, digest, .. }: &Description,
        bytes: &Arc<[u8]>,
        limits: &Limits,
    ) -> Result<Vec<u8>, LoadReason> {
        let Shared { compile_queue, engine, .. } = &*self.shared;
        let mut compiling = pin!(compile_queue.compile(engine, digest, bytes, limits));
        let compiled = match timeout(SLOW_COMPILE_THRESHOLD, &mut compiling).await {
            Ok(compiled) => compiled,
            Err(_) => {
                let limit = limits.cite("compile-time");
                info!(plugin = %name, limit, "plugin compilation is slow, still waiting");
                compiling.await
            }
        };
        compiled.map_err(LoadReason::from)
    }

    fn link(
        self,
        description: Description,
        component: &Component,
        limits: &Limits,
    ) -> Result<Plugin, LoadReason> {
        let unusable = |error: wasmtime::Error| LoadReason::Unusable(error_chain(&error));
        let Shared { engine, linker, scheduler, .. } = &*self.shared;
        let world = world_check::check(component, engine)?;
        let instance = linker.instantiate_pre(component).map_err(unusable)?;
        let exports = ExportIndices::new(&world, &instance).map_err(unusable)?;
        let linked =
            Linked { engine: engine.clone(), scheduler: scheduler.clone(), exports, instance };
        let (description, world) = (Arc::new(description), Arc::new(world));
        let limits = Arc::new(limits.clone());
        Ok(Plugin { host: self, limits, description, world, linked: Arc::new(linked) })
    }
}

/// Checks the static cost of a component against the limits.
fn check_static_cost(cost: StaticCost, limits: &Limits) -> Result<(), LoadReason> {
    let StaticCost { bytes, instances } = cost;
    if instances > u64::from(limits.instances.0) {
        let limit = limits.cite("instances");
        return Err(LoadReason::TooManyInstances { instances, limit });
    }
    if bytes > limits.memory as u64 {
        return Err(LoadReason::StaticCostTooHigh { bytes, limit: limits.cite("memory") });
    }
    Ok(())
}

/// Returns the text of an error with all its causes. One cause of a link error names the import that is missing.
fn error_chain(error: &wasmtime::Error) -> String {
    sanitize(&format!("{error:#}"))
}

impl Plugin {
    /// Returns the description of the plugin, from the metadata of its component.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Returns the world of the plugin: its kind, and the interfaces that it uses.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Returns the default limits of the plugin's sources.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn shared_limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits)
    }

    pub(crate) fn linked(&self) -> &Arc<Linked> {
        &self.linked
    }

    pub(crate) fn large_checks(&self) -> &LargeChecks {
        &self.host.shared.large_checks
    }

    /// Returns a new context for a source of this plugin.
    pub(crate) fn source_context(
        &self,
        source: SourceName,
        limits: Arc<Limits>,
        reach: EgressSettings,
        counters: Arc<Counters>,
    ) -> SourceContext {
        let Shared { files, network, .. } = &*self.host.shared;
        let bounds = EgressLimits {
            connections: limits.connections.get(),
            connect: limits.connect_timeout,
            idle: limits.http_idle,
            total: limits.http_total,
            body: limits.http_body,
            head: limits.http_head,
        };
        let egress = network.egress(reach, bounds);
        let files = files.for_another_owner().access_timeout(limits.file_access);
        SourceContext::new(source, limits, files, egress, counters)
    }
}

/// Returns whether a plugin name is the path of a file, not the name of a bundled plugin.
#[must_use]
pub fn is_path(name: &str) -> bool {
    name.contains('/') || name.ends_with(".wasm")
}

/// Reads a component from a file. The size limit also holds if the file grows during the read.
fn read_component(path: &Path, limits: &Limits) -> Result<Vec<u8>, LoadReason> {
    let file = reloader_fs_watch::open(path).map_err(LoadReason::Io)?;
    let metadata = file.metadata().map_err(LoadReason::Io)?;
    if !metadata.is_file() {
        return Err(LoadReason::Io(io::Error::other("not a regular file")));
    }
    if metadata.len() > limits.component_size as u64 {
        return Err(LoadReason::too_large(metadata.len(), limits));
    }
    let mut bytes = Vec::new();
    let mut file = file.take((limits.component_size as u64).saturating_add(1));
    file.read_to_end(&mut bytes).map_err(LoadReason::Io)?;
    Ok(bytes)
}
