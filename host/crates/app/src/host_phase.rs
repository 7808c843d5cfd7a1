//! Phase of a running host: running, reloading or stopping.

use tokio::sync::watch;

/// Phase of a running host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// The host keeps its sources current.
    #[default]
    Running,
    /// The host keeps its sources current and reloads its configuration.
    Reloading,
    /// The host is shutting down.
    Stopping,
}

/// Guard that sets the phase [`Phase::Reloading`], and resets it on drop: also if the future of the reload is
/// cancelled.
pub(crate) struct ReloadingGuard<'a>(&'a watch::Sender<Phase>);

impl<'a> ReloadingGuard<'a> {
    pub(crate) fn new(phase: &'a watch::Sender<Phase>) -> Self {
        change_phase(phase, Phase::Running, Phase::Reloading);
        Self(phase)
    }
}

impl Drop for ReloadingGuard<'_> {
    fn drop(&mut self) {
        change_phase(self.0, Phase::Reloading, Phase::Running);
    }
}

/// Changes the phase to `to` if it is `from`.
fn change_phase(phase: &watch::Sender<Phase>, from: Phase, to: Phase) {
    phase.send_if_modified(|phase| {
        let is_from = *phase == from;
        if is_from {
            *phase = to;
        }
        is_from
    });
}
