//! What all watched paths share: who wants to know of what, and what the system watches for it.

use crate::{
    inotify::{Descriptor, Events},
    inotify_limits::{Limit, Limits},
    notification::{Happening, Signal, lock},
    symlink_chain::Role,
};
use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak},
};

#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Started when the first path is watched. Taken before `table` where both are.
    events: Mutex<Option<Arc<Events>>>,
    /// Also taken by who listens: never held while the file system is asked.
    table: Mutex<Table>,
    pub(crate) limits: Limits,
}

#[derive(Debug, Default)]
struct Table {
    nodes: HashMap<Descriptor, Node>,
    /// How many are asking the system to watch something right now. They may be told a number that
    /// is in the table, so none is given up meanwhile.
    adding: usize,
    /// What nobody is interested in any more, to be given up when nobody is adding.
    idle: HashSet<Descriptor>,
    /// How many signals want to know of the number of a file's names only.
    names_only: usize,
}

/// A directory or a file that is watched: who is interested, by the name in the directory. What
/// concerns a file itself stands under the empty name.
type Node = HashMap<OsString, HashMap<(u64, Role), Interest>>;

#[derive(Debug)]
struct Interest {
    signal: Weak<Signal>,
    /// The path of the entry: what is mounted there hides it.
    path: PathBuf,
}

/// What is watched, and what it means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) name: &'a OsStr,
    pub(crate) role: Role,
}

/// Why something is not watched.
#[derive(Debug)]
pub(crate) enum Blind {
    /// It is not there, or no longer what it was: to be looked at again.
    Gone,
    /// The system has no room for more.
    Limit(Limit),
    /// It may not be watched, or there are no events here.
    Never(io::Error),
}

impl Shared {
    /// Watches, and from now on tells `signal`. It may be watched for it already.
    pub(crate) fn arm(
        self: &Arc<Self>,
        place: Place<'_>,
        signal: &Arc<Signal>,
    ) -> Result<Descriptor, Blind> {
        let events = self.events()?;
        let path = place.directory.join(place.name);
        let watched = if place.role.is_of_directory() { place.directory } else { &path };
        lock(&self.table).adding += 1;
        let added = events.add(watched, place.role);
        let mut table = lock(&self.table);
        table.adding -= 1;
        if let Ok(descriptor) = added {
            let interest = Interest { signal: Arc::downgrade(signal), path: path.clone() };
            table.insert(descriptor, place, signal.id, interest);
        }
        if table.adding == 0 {
            for descriptor in table.unused() {
                events.remove(descriptor);
            }
        }
        added.map_err(blind)
    }

    /// No longer tells `signal`.
    pub(crate) fn disarm(&self, descriptor: Descriptor, place: Place<'_>, signal: &Signal) {
        let events = lock(&self.events).clone();
        let mut table = lock(&self.table);
        table.take_out(descriptor, place, signal.id);
        if let Some(events) = events
            && table.adding == 0
        {
            for descriptor in table.unused() {
                events.remove(descriptor);
            }
        }
    }

    /// How many files are watched only in case they get another name.
    pub(crate) fn watched_for_names(&self) -> usize {
        lock(&self.table).names_only
    }

    /// Something has happened to what is watched, or to a name in it.
    pub(crate) fn happened(&self, at: Descriptor, name: Option<&OsStr>, what: Happening) {
        let table = lock(&self.table);
        let Some(node) = table.nodes.get(&at) else { return };
        match name {
            Some(name) => {
                for ((_, role), interest) in node.get(name).into_iter().flatten() {
                    interest.tell(*role, what);
                }
            }
            None => {
                for ((_, role), interest) in node.values().flatten() {
                    // Of a directory, only that it is not what it was.
                    let what = match what {
                        Happening::Attributes if role.is_of_directory() => Happening::Itself,
                        what => what,
                    };
                    interest.tell(*role, what);
                }
            }
        }
    }

    /// The system has stopped to watch: it was removed, or nobody was interested.
    pub(crate) fn ended(&self, at: Descriptor) {
        let mut table = lock(&self.table);
        let Some(node) = table.nodes.remove(&at) else { return };
        table.idle.remove(&at);
        for ((_, role), interest) in node.values().flatten() {
            table.names_only -= usize::from(*role == Role::Names);
            interest.tell(*role, Happening::Itself);
        }
    }

    /// Events were lost: everybody looks again.
    pub(crate) fn lost(&self) {
        self.everybody(|_| true, Signal::lost);
    }

    /// Something has been mounted or unmounted in these places.
    pub(crate) fn mounted(&self, places: &HashSet<PathBuf>) {
        let concerned =
            |interest: &Interest| interest.path.ancestors().any(|path| places.contains(path));
        self.everybody(concerned, Signal::moved);
    }

    fn everybody(&self, concerned: impl Fn(&Interest) -> bool, tell: impl Fn(&Signal)) {
        let table = lock(&self.table);
        let interests = table.nodes.values().flat_map(HashMap::values).flat_map(HashMap::values);
        for interest in interests.filter(|interest| concerned(interest)) {
            if let Some(signal) = interest.signal.upgrade() {
                tell(&signal);
            }
        }
    }

    fn events(self: &Arc<Self>) -> Result<Arc<Events>, Blind> {
        let mut events = lock(&self.events);
        if let Some(events) = &*events {
            return Ok(Arc::clone(events));
        }
        let started = Arc::new(Events::start(self).map_err(blind)?);
        Ok(Arc::clone(events.insert(started)))
    }
}

impl Table {
    fn insert(
        &mut self,
        descriptor: Descriptor,
        place: Place<'_>,
        signal: u64,
        interest: Interest,
    ) {
        self.idle.remove(&descriptor);
        let interests = self.nodes.entry(descriptor).or_default();
        let interests = interests.entry(place.own_name().to_owned()).or_default();
        if interests.insert((signal, place.role), interest).is_none() {
            self.names_only += usize::from(place.role == Role::Names);
        }
    }

    fn take_out(&mut self, descriptor: Descriptor, place: Place<'_>, signal: u64) {
        let Some(node) = self.nodes.get_mut(&descriptor) else { return };
        let Some(interests) = node.get_mut(place.own_name()) else { return };
        if interests.remove(&(signal, place.role)).is_some() {
            self.names_only -= usize::from(place.role == Role::Names);
        }
        if interests.is_empty() {
            node.remove(place.own_name());
        }
        if node.is_empty() {
            self.idle.insert(descriptor);
        }
    }

    /// What is to be given up, which is then forgotten.
    fn unused(&mut self) -> HashSet<Descriptor> {
        let idle = std::mem::take(&mut self.idle);
        for descriptor in &idle {
            self.nodes.remove(descriptor);
        }
        idle
    }
}

impl Place<'_> {
    fn own_name(&self) -> &OsStr {
        if self.role.is_of_directory() { self.name } else { OsStr::new("") }
    }
}

impl Interest {
    fn tell(&self, role: Role, what: Happening) {
        if let Some(signal) = self.signal.upgrade() {
            signal.happened(role, what);
        }
    }
}

fn blind(error: io::Error) -> Blind {
    match (error.kind(), Limit::of(&error)) {
        (ErrorKind::NotFound | ErrorKind::NotADirectory, _) => Blind::Gone,
        (_, Some(limit)) => Blind::Limit(limit),
        _ => Blind::Never(error),
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::{notification::Pending, resolver::Followed};
    use std::{fs, thread, time::Duration};

    fn shared() -> (Arc<Shared>, Arc<Signal>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let shared = Arc::<Shared>::default();
        let signal = Arc::<Signal>::default();
        (shared, signal, directory)
    }

    fn number_of_nodes(shared: &Shared) -> usize {
        lock(&shared.table).nodes.len()
    }

    #[test]
    fn what_nobody_is_interested_in_is_given_up() {
        let (shared, signal, directory) = shared();
        let path = directory.path().join("f");
        fs::write(&path, "").unwrap();
        let follow = |signal: &Arc<Signal>| {
            let mut followed = Followed::new(path.clone(), Arc::clone(&shared), Arc::clone(signal));
            followed.follow();
            followed
        };
        let one = follow(&signal);
        let nodes = number_of_nodes(&shared);
        assert!(nodes >= 3, "the root, the directory and the file: {nodes}");
        let other = follow(&Arc::default());
        assert_eq!(number_of_nodes(&shared), nodes);
        assert_eq!(shared.watched_for_names(), 2);
        drop(one);
        assert_eq!(number_of_nodes(&shared), nodes);
        // While somebody is adding, nothing is given up; then by whoever adds last.
        lock(&shared.table).adding += 1;
        drop(other);
        assert_eq!(number_of_nodes(&shared), nodes);
        lock(&shared.table).adding -= 1;
        let one = follow(&signal);
        assert_eq!(number_of_nodes(&shared), nodes);
        drop(one);
        assert_eq!((number_of_nodes(&shared), shared.watched_for_names()), (0, 0));
    }

    /// The kernel keeps 16,384 events; whoever listens is held up until there are more.
    #[test]
    fn after_too_many_events_everybody_looks_again() {
        let (shared, signal, directory) = shared();
        let path = directory.path().join("f");
        fs::write(&path, "").unwrap();
        let mut followed = Followed::new(path.clone(), Arc::clone(&shared), Arc::clone(&signal));
        followed.follow();
        let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let most: usize = most.trim().parse().unwrap();
        if most > 1 << 18 {
            // Here it would take too long.
            return;
        }
        let table = lock(&shared.table);
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&a, "").unwrap();
        // Each of them is two events.
        for _ in 0..most / 4 + 1024 {
            fs::rename(&a, &b).unwrap();
            fs::rename(&b, &a).unwrap();
        }
        fs::write(&path, "its events are lost").unwrap();
        drop(table);
        let end = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let Pending { changed, moved, .. } = signal.take();
            if changed && moved {
                break;
            }
            assert!(std::time::Instant::now() < end, "nobody was told");
            thread::sleep(Duration::from_millis(1));
        }
    }
}
