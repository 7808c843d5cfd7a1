//! Linux tells of changes through inotify, and of mounts through `/proc/self/mountinfo`.
//!
//! One instance and one listener, however many paths are watched. It sleeps while nothing happens.

use crate::{
    inotify_limits::Limit, mount_watch::Mounts, notification::Happening, registry::Shared,
    symlink_chain::Role,
};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch},
    io::Errno,
};
use std::{
    ffi::OsStr,
    fs, io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
    sync::{Arc, Weak},
    thread,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

/// The kernel's number of what is watched. It stands for the inode, whatever its name, and is not
/// given again.
pub(crate) type Descriptor = i32;

/// What the names in a directory lead to.
const WAY: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
const WRITES: WatchFlags = WatchFlags::MODIFY.union(WatchFlags::CLOSE_WRITE);

/// Room for some hundred events with names.
const BUFFER: usize = 16 * 1024;

/// The inotify instance. Ends its listener when it is dropped.
#[derive(Debug)]
pub(crate) struct Events {
    inotify: Arc<OwnedFd>,
    stop: Arc<OwnedFd>,
}

impl Events {
    pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let inotify = Arc::new(init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?);
        let stop = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let listener = Listener {
            inotify: Arc::clone(&inotify),
            stop: Arc::clone(&stop),
            mounts: match Mounts::open() {
                Ok(mounts) => Some(mounts),
                Err(error) if Limit::of(&error).is_some() => return Err(error),
                Err(error) => {
                    tracing::debug!("mounts are not watched: {error}");
                    None
                }
            },
            shared: Arc::downgrade(shared),
            buffer: vec![MaybeUninit::uninit(); BUFFER],
        };
        listener.start()?;
        Ok(Self { inotify, stop })
    }

    /// Watches what has this name now; or returns the number by which it is watched already.
    pub(crate) fn add(&self, path: &Path, role: Role) -> io::Result<Descriptor> {
        let mask = match role {
            Role::Way => WAY,
            Role::Content => WAY | WRITES,
            Role::File => WRITES | WatchFlags::ATTRIB | WatchFlags::DELETE_SELF,
            Role::Names => WatchFlags::ATTRIB,
        };
        // Others may want to know more of the same.
        let mask = mask | WatchFlags::MASK_ADD | WatchFlags::DONT_FOLLOW;
        Ok(add_watch(&self.inotify, path, mask)?)
    }

    pub(crate) fn remove(&self, descriptor: Descriptor) {
        // It fails when the kernel has ended it first.
        let _ = remove_watch(&self.inotify, descriptor);
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // It can only fail when the counter is full, and then the listener is told already.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
    }
}

/// How many watches one user may have here, if the system says so.
pub(crate) fn max_watches() -> Option<usize> {
    let read = |path| fs::read_to_string(path).ok()?.trim().parse().ok();
    let everywhere = read("/proc/sys/fs/inotify/max_user_watches");
    let in_this_namespace = read("/proc/sys/user/max_inotify_watches");
    everywhere.into_iter().chain(in_this_namespace).min()
}

/// What listening takes.
struct Listener {
    inotify: Arc<OwnedFd>,
    stop: Arc<OwnedFd>,
    mounts: Option<Mounts>,
    shared: Weak<Shared>,
    buffer: Vec<MaybeUninit<u8>>,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Files,
    Mounts,
    /// Nobody listens any more.
    Stop,
}

impl Listener {
    /// As a task of the runtime that waits for changes: the way from the kernel to whoever waits is
    /// shorter by one thread. If that runtime ends first, a thread takes over. A runtime of one thread,
    /// or with one worker, may stand still, which must not keep news from others.
    fn start(self) -> io::Result<()> {
        match Handle::try_current() {
            Ok(runtime)
                if runtime.runtime_flavor() == RuntimeFlavor::MultiThread
                    && runtime.metrics().num_workers() > 1 =>
            {
                let task = Task(Some(self));
                drop(runtime.spawn(task.run()));
                Ok(())
            }
            _ => self.start_thread(),
        }
    }

    fn start_thread(self) -> io::Result<()> {
        thread::Builder::new().name("file events".into()).spawn(move || self.run())?;
        Ok(())
    }

    fn run(mut self) {
        loop {
            match self.wait() {
                Ok(news) if self.pass_on(news).is_some() => {}
                Err(Errno::INTR) => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::error!("changes of files are no longer seen: {error}");
                    return;
                }
            }
        }
    }

    fn wait(&self) -> rustix::io::Result<News> {
        let mut all = [
            PollFd::new(&self.inotify, PollFlags::IN),
            PollFd::new(&self.stop, PollFlags::IN),
            // The last one stands for nothing if there is no list of mounts.
            self.mounts.as_ref().map_or_else(
                || PollFd::new(&self.stop, PollFlags::empty()),
                |mounts| PollFd::new(mounts, PollFlags::PRI),
            ),
        ];
        poll(&mut all, None)?;
        let [_, stop, mounts] = all;
        Ok(if stop.revents().contains(PollFlags::IN) {
            News::Stop
        } else if mounts.revents().contains(PollFlags::PRI) {
            News::Mounts
        } else {
            News::Files
        })
    }

    /// Tells everybody concerned. Whether all there was has been read; `None` when nobody listens.
    fn pass_on(&mut self, news: News) -> Option<bool> {
        let shared = self.shared.upgrade()?;
        match (news, &mut self.mounts) {
            (News::Stop, _) => return None,
            (News::Mounts, Some(mounts)) => {
                let changed = mounts.changed();
                shared.mounted(&changed);
            }
            (News::Mounts | News::Files, _) => {}
        }
        Some(pass_events_on(&shared, &self.inotify, &mut self.buffer))
    }
}

/// Listens; and hands over to a thread if it is dropped before everybody has stopped to listen.
struct Task(Option<Listener>);

impl Task {
    async fn run(mut self) {
        // It fails, and a thread takes over, in a runtime that does no I/O.
        if let Some(listener) = &mut self.0
            && let Err(error) = listen(listener).await
        {
            tracing::debug!("a thread listens for changes of files: {error}");
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(listener) = self.0.take()
            && listener.shared.strong_count() > 0
            && let Err(error) = listener.start_thread()
        {
            tracing::error!("changes of files are no longer seen: {error}");
        }
    }
}

async fn listen(listener: &mut Listener) -> io::Result<()> {
    let inotify = register(Arc::clone(&listener.inotify), Interest::READABLE)?;
    let stop = register(Arc::clone(&listener.stop), Interest::READABLE)?;
    let mounts = listener.mounts.as_ref().map(Mounts::try_clone).transpose()?;
    let mounts = mounts.map(|list| register(Arc::new(list), Interest::PRIORITY)).transpose()?;
    let mounted = async || match &mounts {
        Some(mounts) => mounts.ready(Interest::PRIORITY).await,
        None => std::future::pending().await,
    };
    loop {
        tokio::select! {
            ready = inotify.readable() => {
                let mut ready = ready?;
                match listener.pass_on(News::Files) {
                    None => return Ok(()),
                    Some(true) => ready.clear_ready(),
                    // In a flood, others have their turn.
                    Some(false) => tokio::task::yield_now().await,
                }
            }
            ready = mounted() => {
                // First, so that what changes while the list is read is not missed.
                ready?.clear_ready();
                // The list may be long.
                if block_in_place(|| listener.pass_on(News::Mounts)).is_none() {
                    return Ok(());
                }
            }
            _ = stop.readable() => return Ok(()),
        }
    }
}

#[allow(unsafe_code, reason = "tokio asks for a promise, which an owned descriptor keeps")]
fn register(descriptor: Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: it is open, and stays the same one, for as long as it is owned.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// Passes on as many events as fit into the buffer. Whether that was all.
fn pass_events_on(shared: &Shared, inotify: &OwnedFd, buffer: &mut [MaybeUninit<u8>]) -> bool {
    let mut reader = Reader::new(inotify, buffer);
    loop {
        match reader.next() {
            Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                tracing::debug!("more files change than are listened to: all are looked at again");
                crate::overflow::count();
                shared.lost();
            }
            Ok(event) if event.events().contains(ReadFlags::IGNORED) => shared.ended(event.wd()),
            Ok(event) => {
                let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                if let Some(what) = happening(event.events()) {
                    shared.happened(event.wd(), name, what);
                }
            }
            Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) => return true,
            Err(error) => {
                tracing::debug!("cannot read events of files: {error}");
                shared.lost();
                return true;
            }
        }
        if reader.is_buffer_empty() {
            return false;
        }
    }
}

/// An event has one of these bits.
fn happening(flags: ReadFlags) -> Option<Happening> {
    const HAPPENINGS: [(ReadFlags, Happening); 10] = [
        (ReadFlags::MOVED_TO, Happening::Placed),
        (ReadFlags::MOVED_FROM, Happening::Removed),
        (ReadFlags::DELETE, Happening::Removed),
        (ReadFlags::CREATE, Happening::Created),
        (ReadFlags::MODIFY, Happening::Written),
        (ReadFlags::CLOSE_WRITE, Happening::Closed),
        (ReadFlags::ATTRIB, Happening::Attributes),
        (ReadFlags::DELETE_SELF, Happening::Itself),
        (ReadFlags::MOVE_SELF, Happening::Itself),
        (ReadFlags::UNMOUNT, Happening::Unmounted),
    ];
    HAPPENINGS.into_iter().find(|(flag, _)| flags.contains(*flag)).map(|(_, what)| what)
}
