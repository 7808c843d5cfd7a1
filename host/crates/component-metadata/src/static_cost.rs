//! What a component is made of in all, before anything is compiled.
//!
//! A module's globals and functions have room in the host, beside the linear memory that is counted when it
//! grows; and a component may use a module or another component many times, which does so in turn: with
//! two kilobytes it can be made of millions. So it is reckoned from the numbers: rather too much than too
//! little.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, Encoding,
    Instance, Payload,
};

/// What each of these takes at most, in bytes.
const MODULE: u64 = 4096;
const GLOBAL: u64 = 24;
const FUNCTION: u64 = 32;
const TYPE: u64 = 8;
const SEGMENT: u64 = 8;
const TABLE: u64 = 64;
/// A function of the component's own, on its way in or out.
const CANONICAL: u64 = 64;

/// What a component takes each time that it is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// In the host's memory, in bytes.
    pub(super) bytes: u64,
    /// Instances of modules and components, those within them included.
    pub(super) instances: u64,
}

impl Cost {
    /// Of what comes from elsewhere, so that nobody knows. No plugin needs that.
    const UNKNOWN: Self = Self { bytes: u64::MAX, instances: u64::MAX };

    fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.instances = self.instances.saturating_add(other.instances).saturating_add(1);
    }
}

/// A component, as far as it has been seen.
#[derive(Debug, Default)]
struct Scope {
    /// By their indices.
    modules: Vec<Cost>,
    components: Vec<Cost>,
    cost: Cost,
}

/// The weight of a component, as far as it has been seen.
#[derive(Debug, Default)]
pub(super) struct Weight {
    /// What the parser is in, from the outside in; at last a module, perhaps.
    scopes: Vec<Scope>,
    module: Option<u64>,
    whole: Cost,
}

impl Weight {
    /// One more part of the component.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(super) fn add(&mut self, payload: &Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } => self.module = Some(MODULE),
            Payload::Version { encoding: Encoding::Component, .. } => {
                self.scopes.push(Scope::default())
            }
            Payload::End(_) => self.end(),
            Payload::TypeSection(section) => self.part(section.count(), TYPE),
            Payload::ImportSection(section) => self.part(section.count(), FUNCTION),
            Payload::FunctionSection(section) => self.part(section.count(), FUNCTION),
            Payload::TableSection(section) => self.part(section.count(), TABLE),
            Payload::MemorySection(section) => self.part(section.count(), TABLE),
            Payload::GlobalSection(section) => self.part(section.count(), GLOBAL),
            Payload::ElementSection(section) => self.part(section.count(), SEGMENT),
            Payload::DataSection(section) => self.part(section.count(), SEGMENT),
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    if let Instance::Instantiate { module_index, .. } = instance? {
                        self.used(ComponentExternalKind::Module, module_index);
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone() {
                    if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                        self.used(ComponentExternalKind::Component, component_index);
                    }
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                if let Some(scope) = self.scopes.last_mut() {
                    let bytes = u64::from(section.count()).saturating_mul(CANONICAL);
                    scope.cost.bytes = scope.cost.bytes.saturating_add(bytes);
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    self.named(import?.ty.kind(), Cost::UNKNOWN);
                }
            }
            Payload::ComponentExportSection(section) => {
                // It has an index of its own from here on.
                for export in section.clone() {
                    let export = export?;
                    let cost = self.known(export.kind, 0, export.index);
                    self.named(export.kind, cost);
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    match alias? {
                        ComponentAlias::InstanceExport { kind, .. } => {
                            self.named(kind, Cost::UNKNOWN)
                        }
                        ComponentAlias::Outer { kind, count, index } => {
                            let kind = match kind {
                                ComponentOuterAliasKind::CoreModule => {
                                    ComponentExternalKind::Module
                                }
                                ComponentOuterAliasKind::Component => {
                                    ComponentExternalKind::Component
                                }
                                _ => continue,
                            };
                            let cost = self.known(kind, count, index);
                            self.named(kind, cost);
                        }
                        ComponentAlias::CoreInstanceExport { .. } => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The whole component.
    pub(super) fn cost(&self) -> Cost {
        self.whole
    }

    /// So many parts of the module that the parser is in.
    fn part(&mut self, number: u32, weight: u64) {
        if let Some(module) = &mut self.module {
            *module = module.saturating_add(u64::from(number).saturating_mul(weight));
        }
    }

    fn end(&mut self) {
        if let Some(bytes) = self.module.take() {
            self.named(ComponentExternalKind::Module, Cost { bytes, instances: 0 });
        } else if let Some(Scope { cost, .. }) = self.scopes.pop() {
            self.named(ComponentExternalKind::Component, cost);
            self.whole = cost;
        }
    }

    /// Another one of this kind has an index from here on.
    fn named(&mut self, kind: ComponentExternalKind, cost: Cost) {
        let Some(scope) = self.scopes.last_mut() else { return };
        match kind {
            ComponentExternalKind::Module => scope.modules.push(cost),
            ComponentExternalKind::Component => scope.components.push(cost),
            _ => {}
        }
    }

    /// What is known of the one with this index, so many components further out.
    fn known(&self, kind: ComponentExternalKind, outward: u32, index: u32) -> Cost {
        let scope = self.scopes.iter().rev().nth(outward as usize);
        let known = scope.and_then(|scope| match kind {
            ComponentExternalKind::Module => scope.modules.get(index as usize),
            ComponentExternalKind::Component => scope.components.get(index as usize),
            _ => None,
        });
        known.copied().unwrap_or(Cost::UNKNOWN)
    }

    /// The component that the parser is in uses this one.
    fn used(&mut self, kind: ComponentExternalKind, index: u32) {
        let cost = self.known(kind, 0, index);
        if let Some(scope) = self.scopes.last_mut() {
            scope.cost.add(cost);
        }
    }
}
