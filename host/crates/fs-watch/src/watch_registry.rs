//! Subscriptions of path watches to inotify watches, shared by all path watches of a file watcher.

use crate::{
    inotify_limits::{Limit, LimitTracker},
    inotify_listener::Inotify,
    kernel_event_types::{EventHandler, FileEvent, WatchDescriptor},
    path_change_signal::ChangeSignal,
    symlink_chain::Role,
};
use reloader_util::{backoff, sync::Mutex};
use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

/// Time from the first failure of a listener to the start of the next inotify instance. Doubled after each
/// further failure.
const MIN_RESTART_DELAY: Duration = Duration::from_secs(1);
/// Maximum time from a failure of a listener to the start of the next inotify instance.
const MAX_RESTART_DELAY: Duration = Duration::from_secs(3600);

/// Maximum number of watches in [`WatchTable::removed_during_adds`]. The set is cleared when it is full.
const MAX_REMOVED_DURING_ADDS: usize = 4096;

/// Inotify instance and the subscriptions to its watches.
#[derive(Debug, Default)]
pub(crate) struct WatchRegistry {
    /// Current instance. [`arm`](Self::arm) creates the first one at its first call, and a new one some time after
    /// the listener of the current instance has failed. Lock order: `inotify` before `table`.
    inotify: Mutex<Option<Arc<Inotify>>>,
    /// Subscriptions. The event listener takes this lock too, so no thread holds the lock during an
    /// access to a file system.
    table: Mutex<WatchTable>,
    pub(crate) limits: LimitTracker,
}

#[derive(Debug, Default)]
struct WatchTable {
    watches: HashMap<WatchDescriptor, Subscriptions>,
    /// Number of running calls of [`Inotify::add_watch`]. A call blocks as long as its file system does
    /// not answer.
    running_adds: usize,
    /// Watches that were removed while a call of [`Inotify::add_watch`] was running. For an inode that
    /// is watched already, the call returns the existing watch, which may be one of these.
    removed_during_adds: HashSet<WatchDescriptor>,
    /// Number of times that `removed_during_adds` was cleared because it was full.
    cleared: u64,
    /// Number of subscriptions with [`Role::LinkCount`].
    link_count_subscriptions: usize,
    /// Number of inotify instances whose listener has failed; also the number of the current instance.
    failed_instances: u64,
    /// Time before which no further instance is started after a failure.
    restart_at: Option<Instant>,
}

/// Subscriptions to one watch, by the name of the entry in the watched directory, then by the
/// identifier of the change signal and the role. Subscriptions to the inode of a file have an empty
/// name.
type Subscriptions = HashMap<OsString, HashMap<(u64, Role), Subscription>>;

#[derive(Debug)]
struct Subscription {
    signal: Weak<ChangeSignal>,
    /// Path of the entry. A mount at or above this path hides the entry.
    path: PathBuf,
}

/// Directory entry or inode that a path watch subscribes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WatchTarget<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) name: &'a OsStr,
    pub(crate) role: Role,
}

/// Reason why a directory or file cannot be watched.
#[derive(Debug)]
pub(crate) enum ArmError {
    /// The directory or file no longer exists or changed its type. The path must be resolved again.
    Vanished,
    /// A limit of the system is reached. The watch may succeed later.
    LimitReached(Limit),
    /// The permissions do not allow a watch, or the system has no inotify.
    Unavailable(io::Error),
}

impl WatchRegistry {
    /// Watches `target` and subscribes `signal` to the events of the target. Repeated calls have no
    /// further effect.
    pub(crate) fn arm(
        self: &Arc<Self>,
        target: WatchTarget<'_>,
        signal: &Arc<ChangeSignal>,
    ) -> Result<WatchDescriptor, ArmError> {
        let inotify = self.inotify()?;
        let path = target.directory.join(target.name);
        let watched = if target.role.is_directory_entry() { target.directory } else { &path };
        let cleared_before = self.table.lock().start_add();
        let added = inotify.add_watch(watched, target.role);
        let mut table = self.table.lock();
        let is_valid = added.as_ref().is_ok_and(|added| table.is_valid(*added, cleared_before));
        table.end_add();
        if inotify.number() != table.failed_instances {
            return Err(ArmError::LimitReached(Limit::Listener));
        }
        let descriptor = added.map_err(to_arm_error)?;
        if !is_valid {
            // The watch may have been removed while `add_watch` was running, so the caller must try again. In case it
            // still exists, it is removed, and first recorded as removed: other running calls of `add_watch` may
            // return it as well.
            table.remember_removed(descriptor);
            inotify.remove_watch(descriptor);
            return Err(ArmError::Vanished);
        }
        let subscription = Subscription { signal: Arc::downgrade(signal), path };
        table.insert(descriptor, target, signal.id, subscription);
        Ok(descriptor)
    }

    /// Ends the subscription of `signal` to `target`, and removes the watch after its last
    /// subscription has ended.
    pub(crate) fn disarm(
        &self,
        descriptor: WatchDescriptor,
        target: WatchTarget<'_>,
        signal: &ChangeSignal,
    ) {
        let inotify = self.inotify.lock().clone();
        let mut table = self.table.lock();
        if table.remove(descriptor, target, signal.id)
            && let Some(inotify) = inotify
        {
            inotify.remove_watch(descriptor);
        }
    }

    /// Returns the number of subscriptions with [`Role::LinkCount`].
    pub(crate) fn link_count_subscriptions(&self) -> usize {
        self.table.lock().link_count_subscriptions
    }

    fn notify_matching(
        &self,
        matches: impl Fn(&Subscription) -> bool,
        notify: impl Fn(&ChangeSignal),
    ) {
        let table = self.table.lock();
        let all = table.watches.values().flat_map(HashMap::values).flat_map(HashMap::values);
        for subscription in all.filter(|subscription| matches(subscription)) {
            if let Some(signal) = subscription.signal.upgrade() {
                notify(&signal);
            }
        }
    }

    /// Returns the current inotify instance. Creates a new one if there is none, or if the listener of the current
    /// instance has failed and the restart delay has passed.
    fn inotify(self: &Arc<Self>) -> Result<Arc<Inotify>, ArmError> {
        let mut inotify = self.inotify.lock();
        let (number, restart_at) = {
            let table = self.table.lock();
            (table.failed_instances, table.restart_at)
        };
        if let Some(inotify) = inotify.as_ref().filter(|inotify| inotify.number() == number) {
            return Ok(Arc::clone(inotify));
        }
        // Closes the instance whose listener has failed.
        *inotify = None;
        if restart_at.is_some_and(|restart_at| Instant::now() < restart_at) {
            return Err(ArmError::LimitReached(Limit::Listener));
        }
        let handler = Arc::downgrade(self);
        let started = Arc::new(Inotify::start(number, handler).map_err(to_arm_error)?);
        Ok(Arc::clone(inotify.insert(started)))
    }
}

impl EventHandler for WatchRegistry {
    fn file_event(&self, watch: WatchDescriptor, name: Option<&OsStr>, event: FileEvent) {
        let table = self.table.lock();
        let Some(subscriptions) = table.watches.get(&watch) else { return };
        match name {
            Some(name) => {
                for ((_, role), subscription) in subscriptions.get(name).into_iter().flatten() {
                    subscription.notify(*role, event);
                }
            }
            None => {
                for ((_, role), subscription) in subscriptions.values().flatten() {
                    // Subscribers to an entry must not take the attributes of the directory for
                    // those of the entry.
                    let event = match event {
                        FileEvent::AttributesChanged if role.is_directory_entry() => {
                            FileEvent::SelfChanged
                        }
                        event => event,
                    };
                    subscription.notify(*role, event);
                }
            }
        }
    }

    /// Drops the subscriptions to the watch and tells the subscribers that the inode changed.
    fn watch_removed(&self, watch: WatchDescriptor) {
        let mut table = self.table.lock();
        let Some(subscriptions) = table.watches.remove(&watch) else { return };
        for ((_, role), subscription) in subscriptions.values().flatten() {
            table.link_count_subscriptions -= usize::from(*role == Role::LinkCount);
            subscription.notify(*role, FileEvent::SelfChanged);
        }
    }

    fn events_lost(&self) {
        self.notify_matching(|_| true, ChangeSignal::mark_events_lost);
    }

    /// Makes all path watches resolve their paths again. The paths are polled until another instance is
    /// started.
    fn listener_failed(&self, instance: u64) {
        let mut table = self.table.lock();
        if table.failed_instances != instance {
            return;
        }
        let earlier_failures = u32::try_from(instance).unwrap_or(u32::MAX);
        let delay = backoff::exponential(MIN_RESTART_DELAY, MAX_RESTART_DELAY, earlier_failures);
        table.restart_at = Some(Instant::now() + delay);
        table.failed_instances += 1;
        drop(table);
        self.events_lost();
    }

    /// Requests another resolution of all paths at or below `mount_points`.
    fn mounts_changed(&self, mount_points: &HashSet<PathBuf>) {
        let is_below_mount = |subscription: &Subscription| {
            subscription.path.ancestors().any(|path| mount_points.contains(path))
        };
        self.notify_matching(is_below_mount, ChangeSignal::mark_resolution_stale);
    }
}

impl WatchTable {
    fn insert(
        &mut self,
        descriptor: WatchDescriptor,
        target: WatchTarget<'_>,
        signal_id: u64,
        subscription: Subscription,
    ) {
        let subscriptions = self.watches.entry(descriptor).or_default();
        let subscriptions = subscriptions.entry(target.subscription_name().to_owned()).or_default();
        if subscriptions.insert((signal_id, target.role), subscription).is_none() {
            self.link_count_subscriptions += usize::from(target.role == Role::LinkCount);
        }
    }

    /// Removes a subscription. If it was the last one of its watch, also removes the watch from the
    /// table and returns true.
    fn remove(
        &mut self,
        descriptor: WatchDescriptor,
        target: WatchTarget<'_>,
        signal_id: u64,
    ) -> bool {
        let Some(by_name) = self.watches.get_mut(&descriptor) else { return false };
        let Some(subscriptions) = by_name.get_mut(target.subscription_name()) else { return false };
        if subscriptions.remove(&(signal_id, target.role)).is_some() {
            self.link_count_subscriptions -= usize::from(target.role == Role::LinkCount);
        }
        if subscriptions.is_empty() {
            by_name.remove(target.subscription_name());
        }
        if !by_name.is_empty() {
            return false;
        }
        self.watches.remove(&descriptor);
        self.remember_removed(descriptor);
        true
    }

    /// Remembers a removed watch for the running calls of [`Inotify::add_watch`].
    fn remember_removed(&mut self, descriptor: WatchDescriptor) {
        if self.running_adds == 0 {
            return;
        }
        if self.removed_during_adds.len() == MAX_REMOVED_DURING_ADDS {
            self.removed_during_adds.clear();
            self.cleared += 1;
        }
        self.removed_during_adds.insert(descriptor);
    }

    /// Marks a call of [`Inotify::add_watch`] as running. Returns the value of `cleared` for
    /// [`is_valid`](Self::is_valid).
    fn start_add(&mut self) -> u64 {
        self.running_adds += 1;
        self.cleared
    }

    /// Returns whether a watch that [`Inotify::add_watch`] has returned certainly still exists.
    /// `cleared_before` is the result of [`start_add`](Self::start_add) before that call.
    fn is_valid(&self, descriptor: WatchDescriptor, cleared_before: u64) -> bool {
        let may_be_removed =
            self.removed_during_adds.contains(&descriptor) || self.cleared != cleared_before;
        // The kernel does not reuse descriptors, so a watch in the table is not a removed one.
        self.watches.contains_key(&descriptor) || !may_be_removed
    }

    fn end_add(&mut self) {
        self.running_adds -= 1;
        if self.running_adds == 0 {
            self.removed_during_adds.clear();
        }
    }
}

impl WatchTarget<'_> {
    /// Returns the name that subscriptions to this target have in [`Subscriptions`].
    fn subscription_name(&self) -> &OsStr {
        if self.role.is_directory_entry() { self.name } else { OsStr::new("") }
    }
}

impl Subscription {
    fn notify(&self, role: Role, event: FileEvent) {
        if let Some(signal) = self.signal.upgrade() {
            signal.record_event(role, event);
        }
    }
}

fn to_arm_error(error: io::Error) -> ArmError {
    match (error.kind(), Limit::from_error(&error)) {
        (ErrorKind::NotFound | ErrorKind::NotADirectory, _) => ArmError::Vanished,
        (_, Some(limit)) => ArmError::LimitReached(limit),
        _ => ArmError::Unavailable(error),
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::path_change_signal::Pending;
    use std::{fs, thread};

    fn new_registry() -> (Arc<WatchRegistry>, Arc<ChangeSignal>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let registry = Arc::<WatchRegistry>::default();
        let signal = Arc::<ChangeSignal>::default();
        (registry, signal, directory)
    }

    fn watch_count(registry: &WatchRegistry) -> usize {
        registry.table.lock().watches.len()
    }

    /// Returns three watch targets of `path`: its first directory, the file's entry and its inode.
    fn targets(path: &Path) -> Vec<WatchTarget<'_>> {
        let (directory, name) = (path.parent().unwrap(), path.file_name().unwrap());
        let top = path.iter().nth(1).unwrap();
        vec![
            WatchTarget { directory: Path::new("/"), name: top, role: Role::Intermediate },
            WatchTarget { directory, name, role: Role::Final },
            WatchTarget { directory, name, role: Role::LinkCount },
        ]
    }

    /// Arms all targets of `path`. Returns a function that disarms them.
    fn arm_all<'a>(
        registry: &'a Arc<WatchRegistry>,
        path: &'a Path,
        signal: &Arc<ChangeSignal>,
    ) -> impl FnOnce() + use<'a> {
        let arm = |target| (registry.arm(target, signal).unwrap(), target);
        let armed: Vec<_> = targets(path).into_iter().map(arm).collect();
        let signal = Arc::clone(signal);
        move || {
            for (descriptor, target) in armed {
                registry.disarm(descriptor, target, &signal);
            }
        }
    }

    #[test]
    fn unused_watches_are_removed() {
        let (registry, signal, directory) = new_registry();
        let path = directory.path().join("f");
        fs::write(&path, "").unwrap();
        let disarm_first = arm_all(&registry, &path, &signal);
        let watches = watch_count(&registry);
        assert!(watches >= 3, "the root, the directory and the file: {watches}");
        let disarm_second = arm_all(&registry, &path, &Arc::default());
        assert_eq!(watch_count(&registry), watches);
        assert_eq!(registry.link_count_subscriptions(), 2);
        disarm_first();
        assert_eq!(watch_count(&registry), watches);
        // Simulates a running call of `add_watch`. The watches must be removed nevertheless.
        registry.table.lock().start_add();
        disarm_second();
        assert_eq!((watch_count(&registry), registry.link_count_subscriptions()), (0, 0));
    }

    #[test]
    fn watch_removed_during_an_add_is_not_valid() {
        let (registry, signal, directory) = new_registry();
        let path = directory.path().join("f");
        fs::write(&path, "").unwrap();
        let target = targets(&path).remove(1);
        let armed = registry.arm(target, &signal).unwrap();
        let cleared = registry.table.lock().start_add();
        assert!(registry.table.lock().is_valid(armed, cleared));
        registry.disarm(armed, target, &signal);
        assert!(!registry.table.lock().is_valid(armed, cleared));
        let armed_again = registry.arm(target, &signal).unwrap();
        assert!(registry.table.lock().is_valid(armed_again, cleared));
        registry.table.lock().end_add();
        assert!(registry.table.lock().removed_during_adds.is_empty());
    }

    #[test]
    fn number_of_remembered_removed_watches_is_bounded() {
        let (registry, signal, directory) = new_registry();
        let path = directory.path().join("f");
        fs::write(&path, "").unwrap();
        let target = targets(&path).remove(1);
        let cleared = registry.table.lock().start_add();
        let first = registry.arm(target, &signal).unwrap();
        registry.disarm(first, target, &signal);
        for _ in 0..MAX_REMOVED_DURING_ADDS {
            let armed = registry.arm(target, &signal).unwrap();
            registry.disarm(armed, target, &signal);
        }
        let table = registry.table.lock();
        assert!(table.removed_during_adds.len() <= MAX_REMOVED_DURING_ADDS);
        assert!(!table.is_valid(first, cleared), "the watch may have been removed");
    }

    /// After a failure of the listener, all paths are reported, and no path is watched until the next instance.
    #[test]
    fn failed_instance_is_replaced_after_a_delay() {
        let (registry, signal, directory) = new_registry();
        let path = directory.path().join("f");
        fs::write(&path, "").unwrap();
        let target = targets(&path).remove(1);
        let first = registry.arm(target, &signal).unwrap();
        registry.listener_failed(first.instance);
        let Pending { changed, stale_resolution, .. } = signal.take_pending();
        assert!(changed && stale_resolution);
        let error = registry.arm(target, &signal).unwrap_err();
        assert!(matches!(error, ArmError::LimitReached(Limit::Listener)), "{error:?}");
        registry.table.lock().restart_at = Some(Instant::now());
        let second = registry.arm(target, &signal).unwrap();
        assert_ne!(first, second);
        // A second failure report of the first instance, and the end of a subscription to it, must not affect the
        // second instance.
        registry.listener_failed(first.instance);
        registry.disarm(first, target, &signal);
        assert_eq!(registry.arm(target, &signal).unwrap(), second);
        fs::rename(&path, directory.path().join("g")).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while !signal.take_pending().changed {
            assert!(Instant::now() < end, "the second instance reports no event");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The kernel queues 16,384 events by default. The test holds the lock of the table to block
    /// the listener until the queue overflows.
    #[test]
    fn queue_overflow_reports_all_paths() {
        let (registry, signal, directory) = new_registry();
        let path = directory.path().join("f");
        fs::write(&path, "").unwrap();
        let disarm = arm_all(&registry, &path, &signal);
        let max_events = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let max_events: usize = max_events.trim().parse().unwrap();
        if max_events > 1 << 18 {
            // A queue of this size takes too long to fill.
            return;
        }
        let table = registry.table.lock();
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&a, "").unwrap();
        // Each rename queues two events.
        for _ in 0..max_events / 4 + 1024 {
            fs::rename(&a, &b).unwrap();
            fs::rename(&b, &a).unwrap();
        }
        fs::write(&path, "its events are lost").unwrap();
        drop(table);
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let Pending { changed, stale_resolution, .. } = signal.take_pending();
            if changed && stale_resolution {
                break;
            }
            assert!(Instant::now() < end, "the overflow was not reported");
            thread::sleep(Duration::from_millis(1));
        }
        disarm();
    }
}
