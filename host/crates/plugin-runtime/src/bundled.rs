//! The plugins that are built with the host and are part of it.

/// A plugin that is part of the host.
#[derive(Debug, Clone, Copy)]
pub struct Bundled {
    /// Its name.
    pub name: &'static str,
    /// Its component, as it would be in a file.
    pub component: &'static [u8],
}

#[cfg(feature = "bundled")]
const PLUGINS: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/bundled.rs"));
#[cfg(not(feature = "bundled"))]
const PLUGINS: &[(&str, &[u8])] = &[];

/// Returns all of them, in the order of their names; none without the feature `bundled`.
pub fn bundled() -> impl Iterator<Item = Bundled> {
    PLUGINS.iter().map(|&(name, component)| Bundled { name, component })
}
