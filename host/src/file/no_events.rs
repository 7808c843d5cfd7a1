//! A system whose events are not listened to: files are looked at instead.

use super::{chain::Role, registry::Shared};
use std::{io, path::Path, sync::Arc};

pub(super) type Descriptor = i32;

#[derive(Debug)]
pub(super) enum Events {}

impl Events {
    pub(super) fn start(_: &Arc<Shared>) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn add(&self, _: &Path, _: Role) -> io::Result<Descriptor> {
        match *self {}
    }

    pub(super) fn remove(&self, _: Descriptor) {
        match *self {}
    }
}

pub(super) fn max_watches() -> Option<usize> {
    None
}
