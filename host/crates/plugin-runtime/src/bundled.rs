//! Bundled plugins: components that are embedded in the host.

/// Plugin that is embedded in the host.
#[derive(Debug, Clone, Copy)]
pub struct Bundled {
    /// Name of the plugin.
    pub name: &'static str,
    /// Binary of the WebAssembly component.
    pub component: &'static [u8],
}

#[cfg(feature = "bundled")]
const PLUGINS: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/bundled.rs"));
#[cfg(not(feature = "bundled"))]
const PLUGINS: &[(&str, &[u8])] = &[];

/// Returns the bundled plugins in the order of their names, or none without the feature `bundled`.
pub fn bundled() -> impl Iterator<Item = Bundled> {
    PLUGINS.iter().map(|&(name, component)| Bundled { name, component })
}
