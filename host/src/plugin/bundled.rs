//! The plugins that are built with the host and are part of it.

/// A plugin that is part of the host.
#[derive(Debug, Clone, Copy)]
pub struct Bundled {
    /// Its name.
    pub name: &'static str,
    /// Its component, as it would be in a file.
    pub component: &'static [u8],
}

/// All of them, by name.
pub fn bundled() -> impl Iterator<Item = Bundled> {
    include!(concat!(env!("OUT_DIR"), "/bundled.rs"))
        .into_iter()
        .map(|(name, component): (&'static str, &'static [u8])| Bundled { name, component })
}
