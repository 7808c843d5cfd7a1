//! The system's limits for watching, and saying once that they are reached.

use crate::{inotify::max_watches, notification::lock};
use rustix::io::Errno;
use std::{io, sync::Mutex};

/// The part of a user's watches that may be spent on what is rarely needed.
const SPARE_PART: usize = 8;

/// What the system has run out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    Watches,
    Instances,
    Memory,
}

impl Limit {
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        match Errno::from_io_error(error)? {
            Errno::NOSPC => Some(Self::Watches),
            Errno::MFILE | Errno::NFILE => Some(Self::Instances),
            // Also when there can be no more threads.
            Errno::NOMEM | Errno::AGAIN => Some(Self::Memory),
            _ => None,
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Watches => {
                "the limit `fs.inotify.max_user_watches` is reached; \
                 raise it, as in `sysctl fs.inotify.max_user_watches=1048576`"
            }
            Self::Instances => {
                "the limit `fs.inotify.max_user_instances`, or that of open files, is reached; \
                 raise it, as in `sysctl fs.inotify.max_user_instances=1024`"
            }
            Self::Memory => "the system is out of memory or threads",
        }
    }
}

/// How many paths suffer from a limit.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    state: Mutex<State>,
    spare: std::sync::OnceLock<usize>,
}

#[derive(Debug, Default)]
struct State {
    paths: usize,
    /// It has been said, and not yet been taken back.
    told: bool,
}

impl Limits {
    /// One path more that events are not had for.
    pub(crate) fn reached(&self, limit: Limit) {
        let mut state = lock(&self.state);
        state.paths += 1;
        if state.told {
            tracing::debug!("{} paths are looked at for want of events", state.paths);
        } else {
            state.told = true;
            tracing::warn!(
                "changes of some files are not told by the system, so that they are looked at again \
                 and again: {}",
                limit.advice()
            );
        }
    }

    /// One path less: `back` if its events are had again, not if it is no longer watched.
    pub(crate) fn left(&self, back: bool) {
        let mut state = lock(&self.state);
        state.paths = state.paths.saturating_sub(1);
        if state.paths > 0 {
            tracing::debug!("{} paths are looked at for want of events", state.paths);
        } else if std::mem::take(&mut state.told) && back {
            tracing::info!("changes of all watched files are told by the system again");
        }
    }

    /// How many watches may be spent on what is rarely needed.
    pub(crate) fn spare_watches(&self) -> usize {
        *self.spare.get_or_init(|| max_watches().unwrap_or(0) / SPARE_PART)
    }
}
