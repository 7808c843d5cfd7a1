//! Look-up of the exports of a component: those of a source, or of a validator.

use crate::{
    bindings::{
        exports::reloader::plugin::{
            reload::{Guest as Reload, GuestIndices as ReloadIndices},
            watch::{Guest as Watch, GuestIndices as WatchIndices},
        },
        reloader::plugin::types as wit,
        validator::exports::reloader::plugin::validate::{
            Guest as Validator, GuestIndices as ValidateIndices,
        },
    },
    imports::host_state::HostState,
    world_check::World,
};
use wasmtime::{
    Result, Store,
    component::{Instance, InstancePre},
};

/// Indices of the functions that a component exports. They are looked up once for all its instances.
pub(crate) enum ExportIndices {
    Source { reload: ReloadIndices, watch: Option<WatchIndices> },
    Validator(ValidateIndices),
}

impl ExportIndices {
    /// Looks up the indices of the functions that the plugin's world requires.
    pub(crate) fn new(world: &World, component: &InstancePre<HostState>) -> Result<Self> {
        if world.validates {
            return ValidateIndices::new(component).map(Self::Validator);
        }
        let watch = world.can_watch.then(|| WatchIndices::new(component)).transpose()?;
        Ok(Self::Source { reload: ReloadIndices::new(component)?, watch })
    }

    /// Returns the exported functions of an instance, found by their indices.
    pub(crate) fn load(
        &self,
        store: &mut Store<HostState>,
        instance: &Instance,
    ) -> Result<Exports> {
        Ok(match self {
            Self::Source { reload, watch } => {
                let watch = watch.as_ref().map(|watch| watch.load(&mut *store, instance));
                Exports {
                    reload: Some(reload.load(&mut *store, instance)?),
                    watch: watch.transpose()?,
                    validate: None,
                }
            }
            Self::Validator(validate) => {
                let validate = Some(validate.load(store, instance)?);
                Exports { reload: None, watch: None, validate }
            }
        })
    }
}

/// Functions that an instance exports, and that the host can call.
pub(crate) struct Exports {
    pub(crate) reload: Option<Reload>,
    pub(crate) watch: Option<Watch>,
    pub(crate) validate: Option<Validator>,
}

impl Exports {
    /// Calls the export `open`, which sources and validators have.
    pub(crate) async fn open(
        &self,
        store: &mut Store<HostState>,
        settings: &str,
    ) -> Result<std::result::Result<(), wit::Failure>> {
        match (&self.validate, &self.reload) {
            (Some(validate), _) => validate.call_open(store, settings).await,
            (None, Some(reload)) => reload.call_open(store, settings).await,
            (None, None) => Ok(Ok(())),
        }
    }
}
