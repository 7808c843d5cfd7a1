//! Linux event listener: file events from one inotify instance, and mount events from
//! `/proc/self/mountinfo`.
//!
//! One inotify instance and one listener serve any number of watched paths.

use crate::{
    file_access_per_owner::POOL,
    inotify_limits::Limit,
    kernel_event_types::{EventHandler, FileEvent, WatchDescriptor},
    mount_watch::MountTable,
    overflow_counter,
    symlink_chain::Role,
};
use reloader_util::{blocking_pool::BlockingError, panics, sync::Mutex};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch},
    io::Errno,
};
use std::{
    ffi::OsStr,
    io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
    sync::{Arc, Weak},
    thread,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::{Handle, RuntimeFlavor},
};

/// Events of a directory that may change the resolution of its entries.
const ENTRY_EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
/// Events that a writer of a file causes.
const WRITE_EVENTS: WatchFlags = WatchFlags::MODIFY.union(WatchFlags::CLOSE_WRITE);

/// Size of the event buffer, which holds several hundred events with names.
const EVENT_BUFFER_BYTES: usize = 16 * 1024;

/// Inotify instance, whose events a listener passes to the event handler. Stops the listener when dropped.
#[derive(Debug)]
pub(crate) struct Inotify {
    number: u64,
    inotify: Arc<OwnedFd>,
    stop: Arc<OwnedFd>,
}

impl Inotify {
    /// Creates an inotify instance with this number and starts its listener, which passes events to
    /// `handler`.
    pub(crate) fn start(number: u64, handler: Weak<dyn EventHandler>) -> io::Result<Self> {
        let inotify = Arc::new(init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?);
        let stop = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let listener = EventListener {
            instance: number,
            inotify: Arc::clone(&inotify),
            stop: Arc::clone(&stop),
            mounts: match MountTable::open() {
                Ok(mounts) => Some(Arc::new(Mutex::new(mounts))),
                Err(error) if Limit::from_error(&error).is_some() => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "mount events unavailable");
                    None
                }
            },
            handler,
            buffer: vec![MaybeUninit::uninit(); EVENT_BUFFER_BYTES],
        };
        listener.start()?;
        Ok(Self { number, inotify, stop })
    }

    /// Returns the number that distinguishes this inotify instance from those that it replaces.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Watches the inode that `path` names now. Returns the existing descriptor if the inode is
    /// watched already.
    pub(crate) fn add_watch(&self, path: &Path, role: Role) -> io::Result<WatchDescriptor> {
        let mask = match role {
            Role::Intermediate => ENTRY_EVENTS,
            Role::Final => ENTRY_EVENTS | WRITE_EVENTS,
            Role::Inode => WRITE_EVENTS | WatchFlags::ATTRIB | WatchFlags::DELETE_SELF,
            Role::LinkCount => WatchFlags::ATTRIB,
        };
        // `MASK_ADD` keeps the events of other subscriptions to the same inode.
        let mask = mask | WatchFlags::MASK_ADD | WatchFlags::DONT_FOLLOW;
        let number = add_watch(&self.inotify, path, mask)?;
        Ok(WatchDescriptor { instance: self.number, number })
    }

    /// Removes a watch. Ignores the watches of other instances.
    pub(crate) fn remove_watch(&self, descriptor: WatchDescriptor) {
        if descriptor.instance == self.number {
            // The call fails only if the kernel has removed the watch already.
            let _ = remove_watch(&self.inotify, descriptor.number);
        }
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        // The write fails only if the counter is full, which means that the stop is signalled
        // already.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
    }
}

/// Reader of kernel events that runs as a task or on a thread.
struct EventListener {
    /// Number of the inotify instance, for the [`WatchDescriptor`] of each event.
    instance: u64,
    inotify: Arc<OwnedFd>,
    stop: Arc<OwnedFd>,
    mounts: Option<Arc<Mutex<MountTable>>>,
    handler: Weak<dyn EventHandler>,
    buffer: Vec<MaybeUninit<u8>>,
}

/// File descriptor of the listener that has become ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ready {
    Inotify,
    Mounts,
    /// Descriptor that stops the listener: the inotify instance was dropped.
    Stop,
}

impl EventListener {
    /// Starts the listener: as a task in a multi-threaded runtime with more than one worker,
    /// otherwise on a thread.
    ///
    /// A task wakes the path watches with one thread switch less than a thread. In a runtime with a
    /// single worker, a task that blocks the worker would delay the events of all watches, also of
    /// those in other runtimes.
    fn start(self) -> io::Result<()> {
        match Handle::try_current() {
            Ok(runtime)
                if runtime.runtime_flavor() == RuntimeFlavor::MultiThread
                    && runtime.metrics().num_workers() > 1 =>
            {
                let task = ListenerTask(Some(self));
                drop(runtime.spawn(task.run()));
                Ok(())
            }
            _ => self.start_thread(),
        }
    }

    fn start_thread(self) -> io::Result<()> {
        thread::Builder::new().name("reloader-files".into()).spawn(move || self.run())?;
        Ok(())
    }

    fn run(mut self) {
        let error = match panics::catch(|| self.listen_on_this_thread()) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(message) => format!("panicked: {message}"),
        };
        report_failure(&error, self.instance, &self.handler);
    }

    /// Passes events to the handler until the listener must stop.
    fn listen_on_this_thread(&mut self) -> rustix::io::Result<()> {
        loop {
            match self.wait() {
                Ok(ready) if self.dispatch(ready)?.is_some() => {}
                Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits on the current thread until a descriptor is ready.
    fn wait(&self) -> rustix::io::Result<Ready> {
        let mounts = self.mounts.as_ref().map(|mounts| mounts.lock());
        let mut descriptors = [
            PollFd::new(&self.inotify, PollFlags::IN),
            PollFd::new(&self.stop, PollFlags::IN),
            // Without a mount table, the last entry is a placeholder without events.
            mounts.as_ref().map_or_else(
                || PollFd::new(&self.stop, PollFlags::empty()),
                |mounts| PollFd::new(&**mounts, PollFlags::PRI),
            ),
        ];
        poll(&mut descriptors, None)?;
        // A descriptor that is not open would stay ready forever.
        if descriptors.iter().any(|descriptor| descriptor.revents().contains(PollFlags::NVAL)) {
            return Err(Errno::BADF);
        }
        let [_, stop, mounts] = descriptors;
        Ok(if stop.revents().contains(PollFlags::IN) {
            Ready::Stop
        } else if mounts.revents().contains(PollFlags::PRI) {
            Ready::Mounts
        } else {
            Ready::Inotify
        })
    }

    /// Passes pending events to the handler. Returns true if the inotify queue is empty, false if it
    /// may contain more events, and `None` if the listener must stop.
    fn dispatch(&mut self, ready: Ready) -> rustix::io::Result<Option<bool>> {
        let Some(handler) = self.handler.upgrade() else { return Ok(None) };
        match (ready, &self.mounts) {
            (Ready::Stop, _) => return Ok(None),
            (Ready::Mounts, Some(mounts)) => {
                let mount_points = mounts.lock().take_changes();
                handler.mounts_changed(&mount_points);
            }
            (Ready::Mounts | Ready::Inotify, _) => {}
        }
        let instance = self.instance;
        dispatch_file_events(&*handler, instance, &self.inotify, &mut self.buffer).map(Some)
    }
}

/// Listener as a task. Starts a thread if the task ends or is dropped while the handler is in use.
struct ListenerTask(Option<EventListener>);

impl ListenerTask {
    async fn run(mut self) {
        // In a runtime without an I/O driver, `listen` panics. After a panic or an error, `drop` starts
        // a thread.
        if let Some(listener) = &mut self.0
            && let Err(error) = listen(listener).await
        {
            tracing::debug!(%error, "file event listener task failed, starting a thread");
        }
    }
}

impl Drop for ListenerTask {
    fn drop(&mut self) {
        let Some(listener) = self.0.take().filter(|listener| listener.handler.strong_count() > 0)
        else {
            return;
        };
        let (instance, handler) = (listener.instance, Weak::clone(&listener.handler));
        if let Err(error) = listener.start_thread() {
            report_failure(&format!("no thread: {error}"), instance, &handler);
        }
    }
}

/// Logs that a listener has ended through an error, and tells its handler.
fn report_failure(error: &str, instance: u64, handler: &Weak<dyn EventHandler>) {
    tracing::error!(%error, "file event listener failed");
    if let Some(handler) = handler.upgrade() {
        handler.listener_failed(instance);
    }
}

/// Runs the listener on the current runtime until it must stop.
async fn listen(listener: &mut EventListener) -> io::Result<()> {
    let inotify = register(Arc::clone(&listener.inotify), Interest::READABLE)?;
    let stop = register(Arc::clone(&listener.stop), Interest::READABLE)?;
    let mounts = listener.mounts.as_ref().map(|mounts| mounts.lock().try_clone()).transpose()?;
    let mounts = mounts.map(|file| register(Arc::new(file), Interest::PRIORITY)).transpose()?;
    let mounts_ready = async || match &mounts {
        Some(mounts) => mounts.ready(Interest::PRIORITY).await,
        None => std::future::pending().await,
    };
    loop {
        tokio::select! {
            ready = inotify.readable() => {
                let mut ready = ready?;
                match listener.dispatch(Ready::Inotify)? {
                    None => return Ok(()),
                    Some(true) => ready.clear_ready(),
                    // The queue may contain more events. Other tasks run before the next batch.
                    Some(false) => tokio::task::yield_now().await,
                }
            }
            ready = mounts_ready() => {
                // Readiness is cleared before the table is read, so that a change during the read
                // sets it again.
                ready?.clear_ready();
                if dispatch_mounts(listener).await?.is_none() {
                    return Ok(());
                }
            }
            _ = stop.readable() => return Ok(()),
        }
    }
}

/// Dispatches a change of the mounts. Reads the mount table on a thread of the pool, since reading a long one would delay
/// the other tasks of this worker. Without a thread, reads it on this one.
async fn dispatch_mounts(listener: &mut EventListener) -> io::Result<Option<bool>> {
    let (Some(handler), Some(mounts)) = (listener.handler.upgrade(), &listener.mounts) else {
        return Ok(None);
    };
    let mounts = Arc::clone(mounts);
    let reading = POOL.spawn(move || {
        let mount_points = mounts.lock().take_changes();
        handler.mounts_changed(&mount_points);
    });
    match reading.await {
        Ok(()) => Ok(listener.dispatch(Ready::Inotify)?),
        Err(error @ BlockingError::Panicked(_)) => Err(error.into()),
        Err(_) => Ok(listener.dispatch(Ready::Mounts)?),
    }
}

#[allow(
    unsafe_code,
    reason = "tokio requires that the descriptor stays open, as an `OwnedFd` does"
)]
fn register(descriptor: Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the owned descriptor is open and stays the same until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// Passes one buffer of file events of an instance to `handler`. Returns true if the inotify queue is
/// empty, and false if it may contain more events.
fn dispatch_file_events(
    handler: &dyn EventHandler,
    instance: u64,
    inotify: &OwnedFd,
    buffer: &mut [MaybeUninit<u8>],
) -> rustix::io::Result<bool> {
    let descriptor = |number| WatchDescriptor { instance, number };
    let mut reader = Reader::new(inotify, buffer);
    loop {
        match reader.next() {
            Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                tracing::debug!("inotify queue overflow, rescanning");
                overflow_counter::increment();
                handler.events_lost();
            }
            Ok(event) if event.events().contains(ReadFlags::IGNORED) => {
                handler.watch_removed(descriptor(event.wd()));
            }
            Ok(event) => {
                let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                if let Some(file_event) = to_file_event(event.events()) {
                    handler.file_event(descriptor(event.wd()), name, file_event);
                }
            }
            Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) => return Ok(true),
            Err(error) => return Err(error),
        }
        if reader.is_buffer_empty() {
            return Ok(false);
        }
    }
}

/// Converts the flags of an inotify event, exactly one of which names the event.
fn to_file_event(flags: ReadFlags) -> Option<FileEvent> {
    const FILE_EVENTS: [(ReadFlags, FileEvent); 10] = [
        (ReadFlags::MOVED_TO, FileEvent::MovedIn),
        (ReadFlags::MOVED_FROM, FileEvent::Removed),
        (ReadFlags::DELETE, FileEvent::Removed),
        (ReadFlags::CREATE, FileEvent::Created),
        (ReadFlags::MODIFY, FileEvent::Modified),
        (ReadFlags::CLOSE_WRITE, FileEvent::WriterClosed),
        (ReadFlags::ATTRIB, FileEvent::AttributesChanged),
        (ReadFlags::DELETE_SELF, FileEvent::SelfChanged),
        (ReadFlags::MOVE_SELF, FileEvent::SelfChanged),
        (ReadFlags::UNMOUNT, FileEvent::Unmounted),
    ];
    FILE_EVENTS.into_iter().find(|(flag, _)| flags.contains(*flag)).map(|(_, event)| event)
}
