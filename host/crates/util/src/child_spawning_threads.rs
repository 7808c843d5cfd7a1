//! Threads that start child processes. They have their own table of file descriptors.
//!
//! A child starts with a copy of its parent's file descriptors, and closes most of them when it executes its program.
//! To close a file, the system asks some file systems (FUSE, NFS) first. If such a file system does not answer, the
//! child hangs before it executes its program, whatever the program is. On Linux, a thread can have a table of file
//! descriptors of its own, and a child gets a copy of the table of the thread that forks. The table of these threads
//! contains the descriptors that this process inherited, and the pipes of the commands that are being started. It
//! contains no file that another thread has opened.

use crate::{child_process::Pipes, panics, sync::Mutex};
use rustix::{
    io::retry_on_intr,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};
use std::{
    io::{self, ErrorKind, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command},
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

/// Maximum number of file descriptors of one start: standard input, output and error.
const MAX_DESCRIPTORS: usize = 3;
/// Bytes of the ancillary data with this number of file descriptors.
const ANCILLARY_BYTES: usize = rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS));
/// Stack size of a thread, in bytes.
const STACK_BYTES: usize = 256 << 10;

/// Function that receives the result of a start.
type Completion = Box<dyn FnOnce(io::Result<Child>) + Send>;

/// Start of a child process.
///
/// The threads with a table of their own must not drop a value that contains a file descriptor of the shared table. The
/// completion may contain one, for example that of an async runtime, so only the reply thread calls and drops it. All
/// values of the command may be dropped on any thread.
pub(crate) struct Start {
    /// Command whose streams are inherited or null.
    pub(crate) command: Command,
    /// Streams that are replaced by the descriptors that are sent.
    pub(crate) pipes: Pipes,
    pub(crate) complete: Completion,
}

/// Dispatcher thread, which receives the starts and passes each of them to an idle thread or to a new one. The threads
/// that it starts share its table of file descriptors.
struct Dispatcher {
    socket: OwnedFd,
    starts: Sender<Start>,
}

static DISPATCHER: Mutex<Option<Dispatcher>> = Mutex::new(None);

/// Starts the dispatcher thread and the reply thread, if they do not run yet.
pub(crate) fn prepare() -> io::Result<()> {
    start_if_needed(&mut DISPATCHER.lock()).map(drop)
}

/// Starts a child process on a thread of its own. `descriptors` are the ends of its pipes: standard input, standard
/// output, standard error.
pub(crate) fn run(start: Start, descriptors: &[OwnedFd]) -> io::Result<()> {
    // The lock is held until the start is queued, so that the order of the starts and of the descriptors is the same.
    let mut dispatcher = DISPATCHER.lock();
    let Dispatcher { socket, starts } = start_if_needed(&mut dispatcher)?;
    if !descriptors.is_empty() {
        send_descriptors(socket, descriptors)?;
    }
    starts.send(start).map_err(|_| {
        *dispatcher = None;
        io::Error::other("the thread that starts commands has ended")
    })
}

fn start_if_needed(dispatcher: &mut Option<Dispatcher>) -> io::Result<&mut Dispatcher> {
    let started = match dispatcher.take() {
        Some(running) => running,
        None => start_threads()?,
    };
    Ok(dispatcher.insert(started))
}

fn start_threads() -> io::Result<Dispatcher> {
    let flags = SocketFlags::CLOEXEC;
    let (socket, received) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let (replies, results) = channel();
    start_thread(move || reply(results))?;
    let (starts, queue) = channel();
    start_thread(move || {
        if block_signals().is_ok() {
            descriptor_table::leave(&received);
        }
        dispatch(&received, queue, &replies);
    })?;
    Ok(Dispatcher { socket, starts })
}

fn start_thread(run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = thread::Builder::new().name("reloader-spawn".into()).stack_size(STACK_BYTES);
    builder.spawn(run).map(drop)
}

/// Signals that the creator of the dispatcher thread blocks.
static INITIAL_MASK: OnceLock<libc::sigset_t> = OnceLock::new();
/// Largest number of a signal.
const MAX_SIGNAL: libc::c_int = 64;

/// Blocks all signals for this thread, and for the threads that it starts. A signal handler of another part of the program
/// may use a file descriptor, which does not exist in the table of these threads.
fn block_signals() -> io::Result<()> {
    #[allow(unsafe_code, reason = "both calls initialize the local set of signals they get")]
    let (result, initial) = unsafe {
        let (mut all, mut initial) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        libc::sigfillset(all.as_mut_ptr());
        libc::sigemptyset(initial.as_mut_ptr());
        let result = libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), initial.as_mut_ptr());
        (result, initial.assume_init())
    };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    let _ = INITIAL_MASK.set(initial);
    Ok(())
}

/// Resets the signal handlers in a forked child, and unblocks the signals. Allocates nothing.
///
/// A handler of this process would catch a signal until the child executes its program, which resets the handlers too.
pub(crate) fn reset_signals_in_child() {
    #[allow(unsafe_code, reason = "the calls access local structures only")]
    unsafe {
        for signal in 1..=MAX_SIGNAL {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed();
            if libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
                && action.assume_init().sa_sigaction != libc::SIG_IGN
            {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        if let Some(initial) = INITIAL_MASK.get() {
            libc::pthread_sigmask(libc::SIG_SETMASK, initial, std::ptr::null_mut());
        }
    }
}

/// Result of a start, and the function that receives it.
type Reply = (Completion, io::Result<Child>);

/// Reports the results of the starts. This thread uses the shared table of file descriptors.
fn reply(results: Receiver<Reply>) {
    for (complete, result) in results {
        let _ = panics::catch(|| complete(result));
    }
}

/// Threads that wait for a start, with the descriptors that were sent with it. No thread ever ends.
type IdleThreads = Arc<Mutex<Vec<Sender<(Start, Vec<OwnedFd>)>>>>;

fn dispatch(socket: &OwnedFd, queue: Receiver<Start>, replies: &Sender<Reply>) {
    let idle = IdleThreads::default();
    for start in queue {
        let received =
            if start.pipes.count() == 0 { Ok(Vec::new()) } else { receive_descriptors(socket) };
        let received = received.and_then(|descriptors| {
            let is_complete = descriptors.len() == start.pipes.count();
            if is_complete { Ok(descriptors) } else { Err(ErrorKind::UnexpectedEof.into()) }
        });
        let thread = received.and_then(|descriptors| {
            let idle_thread = idle.lock().pop();
            Ok((idle_thread.map_or_else(|| start_worker(&idle, replies), Ok)?, descriptors))
        });
        match thread {
            // A thread does not end while it is idle.
            Ok((thread, descriptors)) => drop(thread.send((start, descriptors))),
            Err(error) => drop(replies.send((start.complete, Err(error)))),
        }
    }
}

/// Starts a thread that starts children, and is idle between two of them.
fn start_worker(
    idle: &IdleThreads,
    replies: &Sender<Reply>,
) -> io::Result<Sender<(Start, Vec<OwnedFd>)>> {
    let (thread, starts) = channel::<(Start, Vec<OwnedFd>)>();
    let (this, idle, replies) = (thread.clone(), Arc::clone(idle), replies.clone());
    start_thread(move || {
        for (Start { mut command, pipes, complete }, descriptors) in starts {
            let result = panics::catch(move || {
                connect(&mut command, pipes, descriptors);
                // The child process has no pipes of its own, so its handle contains no descriptor.
                command.spawn()
            });
            let result = result.unwrap_or_else(|panic| Err(io::Error::other(panic)));
            idle.lock().push(this.clone());
            let _ = replies.send((complete, result));
        }
    })?;
    Ok(thread)
}

/// Makes the descriptors the streams of the command, which closes them when it is dropped.
fn connect(command: &mut Command, pipes: Pipes, descriptors: Vec<OwnedFd>) {
    let mut descriptors = descriptors.into_iter();
    if pipes.stdin
        && let Some(stdin) = descriptors.next()
    {
        command.stdin(stdin);
    }
    if pipes.output
        && let (Some(stdout), Some(stderr)) = (descriptors.next(), descriptors.next())
    {
        command.stdout(stdout).stderr(stderr);
    }
}

fn send_descriptors(socket: &OwnedFd, descriptors: &[OwnedFd]) -> io::Result<()> {
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); ANCILLARY_BYTES];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // Ancillary data needs at least one byte of data.
    let data = [IoSlice::new(&[0])];
    retry_on_intr(|| sendmsg(socket, &data, &mut ancillary, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives the descriptors of one message.
fn receive_descriptors(socket: &OwnedFd) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); ANCILLARY_BYTES];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    retry_on_intr(|| recvmsg(socket, &mut data, &mut ancillary, RecvFlags::CMSG_CLOEXEC))?;
    let descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(descriptors.flatten().collect())
}

/// Table of file descriptors of a thread.
mod descriptor_table {
    use rustix::io::{FdFlags, fcntl_getfd};
    use std::{
        fs,
        os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
    };

    /// Gives the calling thread its own table of file descriptors, which contains `socket` and the descriptors that this
    /// process inherited. If the system does not permit it, the thread keeps the table that all threads share.
    pub(super) fn leave(socket: &OwnedFd) {
        // Without `/proc`, the open files of other threads would stay open in the new table.
        if list().is_none() || !unshare() {
            return;
        }
        for descriptor in list().unwrap_or_default() {
            if descriptor != socket.as_raw_fd() && is_closed_on_exec(descriptor) {
                #[allow(unsafe_code, reason = "no other code uses descriptors of this new table")]
                unsafe {
                    libc::close(descriptor);
                }
            }
        }
    }

    fn list() -> Option<Vec<RawFd>> {
        let entries = fs::read_dir("/proc/thread-self/fd").ok()?;
        Some(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
    }

    /// Copies the table. `close_range` is used instead of `unshare`, since the container runtimes permit only the former
    /// to unprivileged processes. The range contains the largest possible number only, which no file has.
    fn unshare() -> bool {
        #[allow(unsafe_code, reason = "no crate wraps this system call; it reads no memory")]
        let result = unsafe {
            let flags = libc::CLOSE_RANGE_UNSHARE;
            libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, flags)
        };
        result == 0
    }

    /// Returns whether a program that this process executes does not get the descriptor. This holds for files that this
    /// process has opened, and does not hold for inherited descriptors.
    fn is_closed_on_exec(descriptor: RawFd) -> bool {
        #[allow(unsafe_code, reason = "an invalid descriptor is an error of the call")]
        let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
        fcntl_getfd(descriptor).is_ok_and(|flags| flags.contains(FdFlags::CLOEXEC))
    }
}
