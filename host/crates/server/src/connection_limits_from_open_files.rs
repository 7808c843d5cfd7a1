//! Connection limits of the listeners, derived from the open-file limit of the process.
//!
//! Each connection has a file descriptor. Connections get at most half of the open-file limit, so that the host can
//! always open the files and connections of sources, sinks, the state store and the compiler.

use reloader_app::ListenTable;
use rustix::process::{Resource, getrlimit};
use tracing::warn;

/// Minimum number of file descriptors that connections leave to the host. An idle host with one source uses 33 of them.
const MIN_HOST_FILES: usize = 48;
/// Number of file descriptors that connections get under any open-file limit.
const MIN_CONNECTION_FILES: usize = 8;
/// Limit of the API from which no warning is logged if the open-file limit reduces the default. Few hosts need more
/// connections.
const MIN_UNREPORTED_LIMIT: usize = 1000;

/// Maximum numbers of places, and thus of connections, of one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlaceLimits {
    /// Connections on regular places, which may send all requests.
    pub(crate) regular: usize,
    /// Connections on reserved places: above `regular`, only for short requests.
    pub(crate) reserved: usize,
    /// Evicted connections that are not closed yet.
    pub(crate) closing: usize,
}

impl PlaceLimits {
    /// Limits of a listener whose places are not limited by file descriptors.
    pub(crate) const MAX: Self = Self { regular: usize::MAX, reserved: 16, closing: 64 };
    /// Limits of the control socket.
    const CONTROL: Self = Self { regular: 64, ..Self::MAX };

    /// Returns the limits with at most this number of file descriptors in total.
    fn within(self, files: usize) -> Self {
        let reserved = self.reserved.min((files / 4).max(1));
        let closing = self.closing.min((files / 4).max(1));
        let regular = self.regular.min(files.saturating_sub(reserved + closing).max(1));
        Self { regular, reserved, closing }
    }

    fn files(self) -> usize {
        self.regular.saturating_add(self.reserved + self.closing)
    }
}

/// Limits of the API listener and of the control socket.
pub(crate) struct ConnectionLimits {
    pub(crate) api: PlaceLimits,
    pub(crate) control: PlaceLimits,
}

impl ConnectionLimits {
    /// Returns the limits for the present open-file limit. Logs a warning if they are lower than `configured`, the
    /// limit of the API in `[listen]`.
    pub(crate) fn of_process(configured: u32) -> Self {
        let open_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let limits = Self::within(configured, usize::try_from(open_files).unwrap_or(usize::MAX));
        let limit = limits.api.regular;
        let is_enough =
            configured == ListenTable::default().connections && limit >= MIN_UNREPORTED_LIMIT;
        if limit < configured as usize && !is_enough {
            warn!(
                limit,
                configured,
                open_files,
                "connection limit reduced by the open-file limit (`ulimit -n`)"
            );
        }
        limits
    }

    fn within(configured: u32, open_files: usize) -> Self {
        let files = (open_files / 2)
            .min(open_files.saturating_sub(MIN_HOST_FILES))
            .max(MIN_CONNECTION_FILES);
        let control = PlaceLimits::CONTROL.within(files / 4);
        let api = PlaceLimits { regular: configured as usize, ..PlaceLimits::MAX };
        Self { api: api.within(files - control.files()), control }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_half_of_the_open_files_to_the_host() {
        for open_files in [64, 100, 256, 1024, 20_000, 1 << 20] {
            for configured in [1, 500, 10_000, u32::MAX] {
                let ConnectionLimits { api, control } =
                    ConnectionLimits::within(configured, open_files);
                assert!(api.files() + control.files() <= open_files / 2, "{open_files}: {api:?}");
                for limits in [api, control] {
                    assert!(limits.regular.min(limits.reserved).min(limits.closing) >= 1);
                }
            }
        }
    }

    #[test]
    fn configured_limit_applies_if_there_are_enough_open_files() {
        let ConnectionLimits { api, control } = ConnectionLimits::within(10_000, 32_768);
        assert_eq!(api, PlaceLimits { regular: 10_000, ..PlaceLimits::MAX });
        assert_eq!(control, PlaceLimits::CONTROL);
    }

    #[test]
    fn each_kind_of_place_exists_under_any_open_file_limit() {
        let ConnectionLimits { api, control } = ConnectionLimits::within(10_000, 0);
        assert_eq!(control, PlaceLimits { regular: 1, reserved: 1, closing: 1 });
        assert_eq!(api, PlaceLimits { regular: 3, reserved: 1, closing: 1 });
    }
}
