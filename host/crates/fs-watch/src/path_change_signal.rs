//! Change signal of one watched path: its pending changes, passed from the event listener to the
//! path watch.

use crate::{
    kernel_event_types::FileEvent,
    symlink_chain::{Device, Role},
};
use reloader_util::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::{sync::Notify, time::Instant};

/// Pending changes of one [`PathWatch`](super::PathWatch), and the notification that wakes it.
#[derive(Debug)]
pub(crate) struct ChangeSignal {
    /// Identifier of the signal, unique in the process.
    pub(crate) id: u64,
    pub(crate) wake: Notify,
    state: Mutex<Pending>,
    /// The last known writer has finished, so that the content read now is complete.
    writer_done: AtomicBool,
    /// Device of the file at the last resolution of the path.
    device: Mutex<Option<Device>>,
}

/// Changes that the path watch has not processed yet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pending {
    /// The content changed, and the change is complete: a rename, or a writer that closed the file.
    pub(crate) changed: bool,
    /// The path may resolve to another file and must be resolved again.
    pub(crate) stale_resolution: bool,
    /// An intermediate entry was created or removed. The path may have resolved to another file for
    /// a short time, and a reader may have read that file. The change is reported after the next
    /// resolution, even if the path resolves to the same file as before.
    pub(crate) transient: bool,
    /// Burst of writes that has not been reported yet.
    pub(crate) write_burst: Option<WriteBurst>,
}

/// Time of the first and the last write of a burst.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteBurst {
    pub(crate) first: Instant,
    pub(crate) last: Instant,
}

impl Default for ChangeSignal {
    fn default() -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            wake: Notify::new(),
            state: Mutex::default(),
            writer_done: AtomicBool::new(false),
            device: Mutex::default(),
        }
    }
}

impl ChangeSignal {
    /// Records the effect of `event` on an entry or inode with this `role`.
    pub(crate) fn record_event(&self, role: Role, event: FileEvent) {
        use FileEvent::{
            AttributesChanged, Created, Modified, MovedIn, Removed, SelfChanged, Unmounted,
            WriterClosed,
        };
        match (role, event) {
            // A rename or removal is complete at once. The path is resolved again, since the new entry
            // may be a symbolic link.
            (Role::Intermediate | Role::Final, MovedIn) | (Role::Final, Removed) => {
                self.record_complete_change(|state| {
                    (state.changed, state.stale_resolution) = (true, true);
                });
            }
            (Role::Intermediate, Created | Removed) => {
                self.update(|state| (state.stale_resolution, state.transient) = (true, true));
            }
            (Role::Intermediate, AttributesChanged | SelfChanged)
            | (Role::Final, SelfChanged)
            | (Role::LinkCount, AttributesChanged | SelfChanged)
            | (Role::Inode, SelfChanged)
            | (_, Unmounted) => self.mark_resolution_stale(),
            (Role::Final, Created) => {
                self.record_write();
                self.mark_resolution_stale();
            }
            (Role::Final | Role::Inode, Modified) => self.record_write(),
            (Role::Final | Role::Inode, WriterClosed) => {
                self.record_complete_change(|state| {
                    (state.changed, state.write_burst) = (true, None);
                });
            }
            // After a change of its permissions, the inode may become watchable. After a change of its
            // link count, the file may have another path.
            (Role::Final | Role::Inode, AttributesChanged) => {
                self.update(|state| (state.changed, state.stale_resolution) = (true, true));
            }
            // These events are ignored. The watch of the directory reports the creation, rename and removal of an
            // entry, and the writes to a file with a single hard link. A write to an intermediate entry means that a regular file
            // has the name of a directory, so that the path does not resolve through it.
            (Role::Inode | Role::LinkCount, Created | MovedIn | Removed)
            | (Role::Intermediate | Role::LinkCount, Modified | WriterClosed) => {}
        }
    }

    /// Takes all pending changes. The write burst is returned too, but stays pending until its
    /// deadline.
    pub(crate) fn take_pending(&self) -> Pending {
        let mut state = self.state.lock();
        let pending = *state;
        *state = Pending { write_burst: state.write_burst, ..Pending::default() };
        pending
    }

    /// Records that the path may resolve to another file, so that it is resolved again.
    pub(crate) fn mark_resolution_stale(&self) {
        self.update(|state| state.stale_resolution = true);
    }

    /// Records a loss of events: the content and the resolution may have changed.
    pub(crate) fn mark_events_lost(&self) {
        self.mark_writer_unknown();
        self.update(|state| (state.changed, state.stale_resolution) = (true, true));
    }

    /// Ends the write burst if its deadline has passed, and returns whether it did.
    pub(crate) fn end_due_write_burst(&self, deadline: impl FnOnce(WriteBurst) -> Instant) -> bool {
        let burst = &mut self.state.lock().write_burst;
        burst.take_if(|burst| deadline(*burst) <= Instant::now()).is_some()
    }

    /// Marks the state of the last writer as unknown.
    pub(crate) fn mark_writer_unknown(&self) {
        self.writer_done.store(false, Ordering::Release);
    }

    /// Returns whether the last known writer has finished.
    pub(crate) fn is_writer_done(&self) -> bool {
        self.writer_done.load(Ordering::Acquire)
    }

    /// Returns the device of the file at the last resolution of the path.
    pub(crate) fn device(&self) -> Option<Device> {
        *self.device.lock()
    }

    /// Stores the device of the file at the latest resolution of the path.
    pub(crate) fn set_device(&self, device: Option<Device>) {
        *self.device.lock() = device;
    }

    fn record_complete_change(&self, f: impl FnOnce(&mut Pending)) {
        self.writer_done.store(true, Ordering::Release);
        self.update(f);
    }

    /// Extends or starts a write burst. Only the start wakes the path watch, which checks the end
    /// of the burst at its deadline.
    fn record_write(&self) {
        self.mark_writer_unknown();
        let now = Instant::now();
        let mut state = self.state.lock();
        match &mut state.write_burst {
            Some(burst) => burst.last = now,
            None => {
                state.write_burst = Some(WriteBurst { first: now, last: now });
                drop(state);
                self.wake.notify_one();
            }
        }
    }

    fn update(&self, f: impl FnOnce(&mut Pending)) {
        f(&mut self.state.lock());
        self.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the state after one event as a list of labels.
    fn state_after(role: Role, event: FileEvent) -> String {
        let signal = ChangeSignal::default();
        signal.record_event(role, event);
        let pending = signal.take_pending();
        let labels = [
            (pending.changed, "changed"),
            (pending.stale_resolution, "stale"),
            (pending.transient, "transient"),
            (pending.write_burst.is_some(), "burst"),
            (signal.is_writer_done(), "done"),
        ];
        let labels = labels.into_iter().filter(|(is_set, _)| *is_set).map(|(_, label)| label);
        labels.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn events_map_to_pending_changes() {
        use FileEvent::{
            AttributesChanged, Created, Modified, MovedIn, Removed, SelfChanged, Unmounted,
            WriterClosed,
        };
        use Role::{Final, Inode, Intermediate, LinkCount};
        for (role, event, expected) in [
            (Intermediate, MovedIn, "changed stale done"),
            (Intermediate, Created, "stale transient"),
            (Intermediate, Removed, "stale transient"),
            (Intermediate, AttributesChanged, "stale"),
            (Intermediate, SelfChanged, "stale"),
            (Intermediate, Modified, ""),
            (Final, MovedIn, "changed stale done"),
            (Final, Removed, "changed stale done"),
            (Final, Created, "stale burst"),
            (Final, Modified, "burst"),
            (Final, WriterClosed, "changed done"),
            (Final, AttributesChanged, "changed stale"),
            (Final, SelfChanged, "stale"),
            (Inode, Modified, "burst"),
            (Inode, WriterClosed, "changed done"),
            (Inode, AttributesChanged, "changed stale"),
            (Inode, SelfChanged, "stale"),
            (Inode, Unmounted, "stale"),
            (LinkCount, AttributesChanged, "stale"),
            (LinkCount, Modified, ""),
        ] {
            assert_eq!(state_after(role, event), expected, "{role:?} {event:?}");
        }
    }

    #[test]
    fn take_pending_keeps_the_write_burst() {
        let signal = ChangeSignal::default();
        signal.record_event(Role::Final, FileEvent::Modified);
        signal.mark_events_lost();
        let Pending { changed, stale_resolution, write_burst, .. } = signal.take_pending();
        assert!(changed && stale_resolution && write_burst.is_some());
        let Pending { changed, stale_resolution, write_burst, .. } = signal.take_pending();
        assert!(!changed && !stale_resolution && write_burst.is_some());
        let in_a_minute = |burst: WriteBurst| burst.last + std::time::Duration::from_secs(60);
        assert!(!signal.end_due_write_burst(in_a_minute));
        assert!(signal.end_due_write_burst(|burst| burst.last));
        assert!(!signal.end_due_write_burst(|burst| burst.last));
    }
}
