//! Inotify limits of the system: detection, log events and the budget for optional watches.

use reloader_util::sync::Mutex;
use rustix::io::Errno;
use std::{io, sync::OnceLock};

/// Divisor of the user's watch limit that yields the budget for link-count watches. A link-count watch is an optional
/// watch of a file's inode that detects new hard links.
const LINK_COUNT_WATCH_DIVISOR: usize = 8;

/// Reason why kernel events are unavailable for now. Most reasons are a resource that the system has run
/// out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Number of inotify watches of the user (`max_user_watches`).
    Watches,
    /// Number of inotify instances of the user (`max_user_instances`), or of open files.
    Instances,
    /// The system has no memory, or cannot start a thread.
    Memory,
    /// No resource: the listener of the kernel events has failed.
    Listener,
}

impl Limit {
    /// Returns the limit that `error` reports, if it reports one.
    pub(crate) fn from_error(error: &io::Error) -> Option<Self> {
        match Errno::from_io_error(error)? {
            Errno::NOSPC => Some(Self::Watches),
            Errno::MFILE | Errno::NFILE => Some(Self::Instances),
            // A failure to create a thread returns `EAGAIN`.
            Errno::NOMEM | Errno::AGAIN => Some(Self::Memory),
            _ => None,
        }
    }

    /// Returns the value of the log field `cause`: the exhausted resource or another reason.
    fn cause(self) -> &'static str {
        match self {
            Self::Watches => "limit `fs.inotify.max_user_watches` reached",
            Self::Instances => {
                "limit `fs.inotify.max_user_instances` or the limit of open files reached"
            }
            Self::Memory => "out of memory or threads",
            Self::Listener => "the listener of file events has failed",
        }
    }

    /// Returns the value of the log field `hint`: the next step of the operator.
    fn hint(self) -> &'static str {
        match self {
            Self::Watches => {
                "raise the limit, for example with `sysctl fs.inotify.max_user_watches=1048576`"
            }
            Self::Instances => {
                "raise the limit, for example with `sysctl fs.inotify.max_user_instances=1024`"
            }
            Self::Memory => "free memory or raise the limit of threads",
            Self::Listener => "see the event `file event listener failed` for the reason",
        }
    }
}

/// Number of paths that are polled because of an inotify limit.
///
/// Logs a warning when the first path reaches a limit, and the recovery of the last path.
#[derive(Debug, Default)]
pub(crate) struct LimitTracker {
    state: Mutex<State>,
    link_count_watch_budget: OnceLock<usize>,
}

#[derive(Debug, Default)]
struct State {
    limited_paths: usize,
    /// The warning has been logged, and no recovery since then.
    warned: bool,
}

impl LimitTracker {
    /// Adds a path that is polled because of `limit`.
    pub(crate) fn add_limited_path(&self, limit: Limit) {
        let mut state = self.state.lock();
        state.limited_paths += 1;
        if state.warned {
            log_limited_paths(state.limited_paths);
        } else {
            state.warned = true;
            tracing::warn!(
                cause = limit.cause(),
                hint = limit.hint(),
                "inotify unavailable for some files, polling them"
            );
        }
    }

    /// Removes a limited path. `recovered` is true if the path has kernel events again, and false if
    /// it is no longer watched.
    pub(crate) fn remove_limited_path(&self, recovered: bool) {
        let mut state = self.state.lock();
        state.limited_paths = state.limited_paths.saturating_sub(1);
        if state.limited_paths > 0 {
            log_limited_paths(state.limited_paths);
        } else if std::mem::take(&mut state.warned) && recovered {
            tracing::info!("inotify events restored for all files");
        }
    }

    /// Returns the maximum number of link-count watches.
    pub(crate) fn link_count_watch_budget(&self) -> usize {
        *self
            .link_count_watch_budget
            .get_or_init(|| max_user_watches().unwrap_or(0) / LINK_COUNT_WATCH_DIVISOR)
    }
}

fn log_limited_paths(paths: usize) {
    tracing::debug!(paths, "polling files without inotify");
}

/// Returns the number of watches that one user may have in this user namespace, if it is known.
#[cfg(target_os = "linux")]
fn max_user_watches() -> Option<usize> {
    let read = |path| std::fs::read_to_string(path).ok()?.trim().parse().ok();
    let system_limit = read("/proc/sys/fs/inotify/max_user_watches");
    let namespace_limit = read("/proc/sys/user/max_inotify_watches");
    system_limit.into_iter().chain(namespace_limit).min()
}

#[cfg(not(target_os = "linux"))]
fn max_user_watches() -> Option<usize> {
    None
}
