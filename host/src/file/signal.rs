//! What has happened to one watched path, from notify's threads to whoever waits.

use super::chain::Role;
use notify::{
    EventKind,
    event::{AccessKind, AccessMode, ModifyKind},
};
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use tokio::{sync::Notify, time::Instant};

/// What a [`PathWatch`](super::PathWatch) waits for.
#[derive(Debug, Default)]
pub(super) struct Signal {
    pub(super) wake: Notify,
    state: Mutex<Pending>,
    /// The writer that was seen last is done: what is read now is complete.
    pub(super) complete: AtomicBool,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pending {
    /// Something happened that is complete in itself.
    pub(super) changed: bool,
    /// The file's own entry is another one: if it is a link now, the path leads somewhere else.
    pub(super) replaced: bool,
    /// Something on the way moved: the path may lead somewhere else, even if it looks the same.
    pub(super) moved: bool,
    /// Somebody is writing: since when, and when last.
    pub(super) writing: Option<(Instant, Instant)>,
}

impl Signal {
    pub(super) fn happened(&self, role: Role, kind: EventKind) {
        match (role, kind) {
            (Role::Way, _) => self.moved(),
            (Role::Content, EventKind::Access(AccessKind::Close(AccessMode::Write))) => {
                self.complete.store(true, Ordering::Release);
                self.update(|state| {
                    state.changed = true;
                    state.writing = None;
                });
            }
            // Renamed to here, or away.
            (Role::Content, EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_)) => {
                self.complete.store(true, Ordering::Release);
                self.update(|state| (state.changed, state.replaced) = (true, true));
            }
            // By `open`, which is followed by writing; or a link.
            (Role::Content, EventKind::Create(_)) => {
                self.writes();
                self.update(|state| state.replaced = true);
            }
            (Role::Content, EventKind::Modify(ModifyKind::Metadata(_))) => {
                self.update(|state| state.changed = true);
            }
            (Role::Content, EventKind::Modify(_)) => self.writes(),
            (Role::Content, EventKind::Any | EventKind::Other | EventKind::Access(_)) => {}
        }
    }

    /// What has happened, taken; but not that somebody is writing, which ends by itself.
    pub(super) fn take(&self) -> Pending {
        let mut state = lock(&self.state);
        let pending = *state;
        *state = Pending { writing: state.writing, ..Pending::default() };
        pending
    }

    pub(super) fn moved(&self) {
        self.update(|state| state.moved = true);
    }

    /// The writer has paused for long enough.
    pub(super) fn settled(&self) {
        lock(&self.state).writing = None;
    }

    fn writes(&self) {
        self.complete.store(false, Ordering::Release);
        let now = Instant::now();
        self.update(|state| {
            let since = state.writing.map_or(now, |(since, _)| since);
            state.writing = Some((since, now));
        });
    }

    fn update(&self, f: impl FnOnce(&mut Pending)) {
        f(&mut lock(&self.state));
        self.wake.notify_one();
    }
}

/// A panic while the lock was held leaves nothing half done here.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
