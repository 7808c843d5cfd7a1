//! What of the sources survives a restart, if the configuration says so.

use super::{config::StateTable, control::HistoryEntry};
use crate::{
    delivery::Ledger,
    keep::{Keep, Resumed},
    model::{Revision, Snapshot, SourceName},
    state::State,
};
