//! Changes of the configuration and of a plugin's file.

use super::UNAFFECTED_TIMEOUT;
use crate::{
    configuration,
    environment::Environment,
    random::Rng,
    sources::{Kind, MoreSink, PROBE, Source},
};
use e2e::HungMount;
use rustix::process::Signal;
use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

/// Timeout for a configuration reload, including the compilation of a component.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Prefix of the names of the sources that `add_source` adds and `remove_source` removes.
const ADDED_PREFIX: &str = "added-";
/// Maximum number of added sources at a time.
const MAX_ADDED_SOURCES: usize = 10;
/// Number of sources on a file system that never answers.
const HUNG_SOURCES: usize = 8;
/// Number of variants of the replaced plugin. The host compiles each variant once and caches the result.
const PLUGIN_VARIANTS: u64 = 4;

const RELOADED: &str = "configuration reloaded";
const REJECTED: &str = "configuration reload failed";

/// Calls `trigger`, which causes a reload, and waits until the host logs `event`.
fn reload(environment: &Environment, event: &str, trigger: impl FnOnce()) -> Result<(), String> {
    let before = environment.log.count(event);
    trigger();
    let logged = || environment.log.count(event) > before;
    environment.wait_until(&format!("the event `{event}`"), RELOAD_TIMEOUT, logged).map(|_| ())
}

/// Writes the configuration of the present sources and waits until it is in effect.
fn apply(environment: &Environment) -> Result<(), String> {
    reload(environment, RELOADED, || environment.write_configuration(""))
}

/// Returns a name that no source has had before. A source that is removed and added again under the same name
/// starts with revision 1, which the test would report as a fallen revision.
fn new_name(prefix: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn add_source(environment: &Environment) -> Result<(), String> {
    let added = |source: &str| source.starts_with(ADDED_PREFIX);
    if environment.sources().iter().filter(|source| added(&source.name)).count()
        >= MAX_ADDED_SOURCES
    {
        return remove_source(environment);
    }
    let source = Source::new(&new_name(ADDED_PREFIX), Kind::File, MoreSink::None);
    environment.stores().replace_file(&source);
    environment.add_source(source);
    apply(environment)
}

pub(crate) fn remove_source(environment: &Environment) -> Result<(), String> {
    let sources = environment.sources();
    match sources.iter().find(|source| source.name.starts_with(ADDED_PREFIX)) {
        Some(source) => environment.remove_source(&source.name),
        None => return add_source(environment),
    }
    apply(environment)
}

pub(crate) fn change_source(environment: &Environment, rng: &mut Rng) -> Result<(), String> {
    let sources = environment.sources();
    let files: Vec<_> =
        sources.iter().filter(|source| source.is_file() && source.name != PROBE).collect();
    let source = *rng.pick(&files);
    let previous = environment.stores().move_file(source);
    let applied = apply(environment);
    let _ = fs::remove_file(environment.t.path(&previous));
    applied
}

pub(crate) fn invalidate(environment: &Environment, hold: Duration) -> Result<(), String> {
    reload(environment, REJECTED, || environment.write_configuration("unknown-key = 1\n"))?;
    let unaffected = environment.probe(UNAFFECTED_TIMEOUT);
    thread::sleep(hold);
    apply(environment)?;
    unaffected.map(|_| ())
}

pub(crate) fn hang_up(environment: &Environment) -> Result<(), String> {
    reload(environment, RELOADED, || {
        if let Some(host) = &*environment.host() {
            host.signal(Signal::HUP);
        }
    })
}

pub(crate) fn replace_plugin(environment: &Environment) -> Result<(), String> {
    const REPLACED: &str = "source plugin replaced";
    let variant = environment.log.count(REPLACED) % PLUGIN_VARIANTS + 1;
    let component = configuration::file_plugin(variant as u8);
    let present = fs::read(environment.t.path("file.wasm")).unwrap_or_default();
    if component == present {
        return Ok(());
    }
    reload(environment, REPLACED, || environment.t.replace("file.wasm", component))
}

/// Adds sources on a file system that never answers, and removes them before or after its unmount.
pub(crate) fn hang_mount(
    environment: &Environment,
    rng: &mut Rng,
    hold: Duration,
) -> Result<(), String> {
    let Some(mount) = HungMount::over(&environment.t.path("hung")) else { return Ok(()) };
    let names: Vec<_> = (0..HUNG_SOURCES).map(|_| new_name("hung-")).collect();
    for name in &names {
        environment.add_source(Source::new(name, Kind::HungFile, MoreSink::None));
    }
    let added = apply(environment);
    let unaffected = environment.probe(UNAFFECTED_TIMEOUT);
    thread::sleep(hold);
    names.iter().for_each(|name| environment.remove_source(name));
    let removed = if rng.below(2) == 0 {
        drop(mount);
        apply(environment)
    } else {
        let removed = apply(environment);
        drop(mount);
        removed
    };
    added.and(unaffected).and(removed)
}
