//! Static cost of a component: an upper bound of the host memory and of the instances that instantiation takes.
//!
//! The limit on linear memory, which applies when the memory grows, does not cover the host memory of a module's
//! globals, functions and tables. A component may instantiate modules and other components any number of times,
//! and those may do the same: a component of two kilobytes can expand to millions of instances. The cost is
//! therefore computed from the sections before compilation. The computed cost may be too high, but never too low.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, Encoding,
    Instance, Payload,
};

/// Maximum host memory of a module instance without its functions, globals, tables and segments, in bytes.
const MODULE_BYTES: u64 = 4096;
/// Maximum host memory of a global, in bytes.
const GLOBAL_BYTES: u64 = 24;
/// Maximum host memory of a function or an import, in bytes.
const FUNCTION_BYTES: u64 = 32;
/// Maximum host memory of a type, in bytes.
const TYPE_BYTES: u64 = 8;
/// Maximum host memory of an element or data segment, in bytes.
const SEGMENT_BYTES: u64 = 8;
/// Maximum host memory of a table or of the bookkeeping of a linear memory, in bytes.
const TABLE_BYTES: u64 = 64;
/// Maximum host memory of a canonical function (a lifted or lowered function of a component), in bytes.
const CANONICAL_FUNCTION_BYTES: u64 = 64;

/// Cost of one instance of a module or component.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StaticCost {
    /// Upper bound of the host memory of the instance, without linear memory, in bytes.
    pub bytes: u64,
    /// Number of module and component instances inside the instance, nested ones included.
    pub instances: u64,
}

impl StaticCost {
    /// Cost of an imported module or component. It is unknown, so it exceeds every limit. No plugin needs such
    /// an import.
    const UNKNOWN: Self = Self { bytes: u64::MAX, instances: u64::MAX };

    /// Adds the cost of a nested instance, and the instance itself.
    fn add_instance(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.instances = self.instances.saturating_add(other.instances).saturating_add(1);
    }
}

/// Component that the parser has entered and not left.
#[derive(Debug, Default)]
struct Scope {
    /// Costs of the modules defined so far, by module index.
    modules: Vec<StaticCost>,
    /// Costs of the components defined so far, by component index.
    components: Vec<StaticCost>,
    /// Cost of one instance of the component, for its part that is parsed so far.
    cost: StaticCost,
}

/// Computes the cost of a component from the payloads of the parser.
#[derive(Debug, Default)]
pub(super) struct CostCounter {
    /// Components that enclose the current position, outermost first.
    scopes: Vec<Scope>,
    /// Host memory of the module at the current position, in bytes; `None` outside of modules.
    module_bytes: Option<u64>,
    /// Cost of the component that ended last: at the end of the input, the outermost one.
    total: StaticCost,
}

impl CostCounter {
    /// Adds the cost of a payload.
    ///
    /// # Errors
    ///
    /// An invalid section in the payload.
    pub(super) fn add_payload(&mut self, payload: &Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } => {
                self.module_bytes = Some(MODULE_BYTES);
            }
            Payload::Version { encoding: Encoding::Component, .. } => {
                self.scopes.push(Scope::default())
            }
            Payload::End(_) => self.end_scope(),
            Payload::TypeSection(section) => self.add_items(section.count(), TYPE_BYTES),
            Payload::ImportSection(section) => self.add_items(section.count(), FUNCTION_BYTES),
            Payload::FunctionSection(section) => self.add_items(section.count(), FUNCTION_BYTES),
            Payload::TableSection(section) => self.add_items(section.count(), TABLE_BYTES),
            Payload::MemorySection(section) => self.add_items(section.count(), TABLE_BYTES),
            Payload::GlobalSection(section) => self.add_items(section.count(), GLOBAL_BYTES),
            Payload::ElementSection(section) => self.add_items(section.count(), SEGMENT_BYTES),
            Payload::DataSection(section) => self.add_items(section.count(), SEGMENT_BYTES),
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    if let Instance::Instantiate { module_index, .. } = instance? {
                        self.instantiate(ComponentExternalKind::Module, module_index);
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone() {
                    if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                        self.instantiate(ComponentExternalKind::Component, component_index);
                    }
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                if let Some(scope) = self.scopes.last_mut() {
                    let functions = u64::from(section.count());
                    let bytes = functions.saturating_mul(CANONICAL_FUNCTION_BYTES);
                    scope.cost.bytes = scope.cost.bytes.saturating_add(bytes);
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    self.define(import?.ty.kind(), StaticCost::UNKNOWN);
                }
            }
            Payload::ComponentExportSection(section) => {
                // An export defines a new index for the exported item.
                for export in section.clone() {
                    let export = export?;
                    let cost = self.cost_of(export.kind, 0, export.index);
                    self.define(export.kind, cost);
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    match alias? {
                        ComponentAlias::InstanceExport { kind, .. } => {
                            self.define(kind, StaticCost::UNKNOWN)
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
                            let cost = self.cost_of(kind, count, index);
                            self.define(kind, cost);
                        }
                        ComponentAlias::CoreInstanceExport { .. } => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the cost of an instance of the whole component, after the last payload.
    pub(super) fn cost(&self) -> StaticCost {
        self.total
    }

    /// Adds `count` items of `bytes_each` to the current module.
    fn add_items(&mut self, count: u32, bytes_each: u64) {
        if let Some(bytes) = &mut self.module_bytes {
            *bytes = bytes.saturating_add(u64::from(count).saturating_mul(bytes_each));
        }
    }

    /// Ends the current module or component, and defines it in the enclosing component.
    fn end_scope(&mut self) {
        if let Some(bytes) = self.module_bytes.take() {
            self.define(ComponentExternalKind::Module, StaticCost { bytes, instances: 0 });
        } else if let Some(Scope { cost, .. }) = self.scopes.pop() {
            self.define(ComponentExternalKind::Component, cost);
            self.total = cost;
        }
    }

    /// Appends a module or component of this cost to the index space of its kind.
    fn define(&mut self, kind: ComponentExternalKind, cost: StaticCost) {
        let Some(scope) = self.scopes.last_mut() else { return };
        match kind {
            ComponentExternalKind::Module => scope.modules.push(cost),
            ComponentExternalKind::Component => scope.components.push(cost),
            _ => {}
        }
    }

    /// Returns the cost of the module or component with this index. `depth` selects the component whose index space is
    /// used: 0 for the current one, 1 for the one that encloses it, and so on.
    fn cost_of(&self, kind: ComponentExternalKind, depth: u32, index: u32) -> StaticCost {
        let scope = self.scopes.iter().rev().nth(depth as usize);
        let cost = scope.and_then(|scope| match kind {
            ComponentExternalKind::Module => scope.modules.get(index as usize),
            ComponentExternalKind::Component => scope.components.get(index as usize),
            _ => None,
        });
        cost.copied().unwrap_or(StaticCost::UNKNOWN)
    }

    /// Adds an instance of a module or component to the current component.
    fn instantiate(&mut self, kind: ComponentExternalKind, index: u32) {
        let cost = self.cost_of(kind, 0, index);
        if let Some(scope) = self.scopes.last_mut() {
            scope.cost.add_instance(cost);
        }
    }
}
