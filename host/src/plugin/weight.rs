//! What a component's parts take in the host's memory, each time that it is opened.
//!
//! A module's globals and functions have room in the host, beside the linear memory that is counted when it
//! grows; and a component may use one module many times. So it is reckoned from the numbers before
//! anything is compiled: not exactly, and rather too much.

use wasmparser::{ComponentInstance, Encoding, Instance, Payload};

/// What each of these takes at most, in bytes.
const MODULE: u64 = 4096;
const GLOBAL: u64 = 24;
const FUNCTION: u64 = 32;
const TYPE: u64 = 8;
const SEGMENT: u64 = 8;
const TABLE: u64 = 64;
/// A function of the component's own, on its way in or out.
const CANONICAL: u64 = 64;

/// The weight of a component, as far as it has been seen.
#[derive(Debug, Default)]
pub(super) struct Weight {
    /// What the parser is in, from the outside in: the weight of a module, nothing for a component.
    inside: Vec<Option<u64>>,
    heaviest_module: u64,
    /// How often modules are used: by the outermost component, and by those within it.
    outer_uses: u64,
    inner_uses: u64,
    /// How often components are used.
    components: u64,
    canonical: u64,
}

impl Weight {
    /// One more part of the component.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(super) fn add(&mut self, payload: &Payload<'_>) -> wasmparser::Result<()> {
        let mut module = |number: u32, weight: u64| {
            if let Some(Some(module)) = self.inside.last_mut() {
                *module = module.saturating_add(u64::from(number).saturating_mul(weight));
            }
        };
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } => self.inside.push(Some(MODULE)),
            Payload::Version { encoding: Encoding::Component, .. } => self.inside.push(None),
            Payload::End(_) => {
                if let Some(Some(module)) = self.inside.pop() {
                    self.heaviest_module = self.heaviest_module.max(module);
                }
            }
            Payload::TypeSection(section) => module(section.count(), TYPE),
            Payload::ImportSection(section) => module(section.count(), FUNCTION),
            Payload::FunctionSection(section) => module(section.count(), FUNCTION),
            Payload::TableSection(section) => module(section.count(), TABLE),
            Payload::MemorySection(section) => module(section.count(), TABLE),
            Payload::GlobalSection(section) => module(section.count(), GLOBAL),
            Payload::ElementSection(section) => module(section.count(), SEGMENT),
            Payload::DataSection(section) => module(section.count(), SEGMENT),
            Payload::InstanceSection(section) => {
                let uses =
                    if self.inside.len() > 1 { &mut self.inner_uses } else { &mut self.outer_uses };
                for instance in section.clone() {
                    *uses += u64::from(matches!(instance?, Instance::Instantiate { .. }));
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone() {
                    let is_use = matches!(instance?, ComponentInstance::Instantiate { .. });
                    self.components += u64::from(is_use);
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                self.canonical += u64::from(section.count());
            }
            _ => {}
        }
        Ok(())
    }

    /// All of it, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let uses = self.inner_uses.saturating_mul(self.components).saturating_add(self.outer_uses);
        let canonical = self.canonical.saturating_mul(CANONICAL);
        self.heaviest_module
            .saturating_mul(uses)
            .saturating_add(canonical.saturating_mul(self.components.saturating_add(1)))
    }
}
