//! Threads that start child processes. Each has a table of file descriptors of its own.
//!
//! A child starts with a copy of its parent's file descriptors, and closes most of them when it executes its program.
//! To close a file, the system asks some file systems (FUSE, NFS) first. If such a file system does not answer, the
//! child hangs before it executes its program, whatever the program is. On Linux, a thread can have a table of file
//! descriptors of its own, and a child gets a copy of the table of the thread that forks. The table of such a thread
//! contains the descriptors that this process inherited, and the streams of the command that is being started. It
//! contains no file that another thread has opened, and `/dev/null` as standard input, output and error.
//!
//! A child that hangs holds no pipe of another command, since no other thread forks with the same table.

use crate::{panics, sync::Mutex};
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
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

/// Maximum number of file descriptors of one start: standard input, output and error, and the pipe for the process ID.
const MAX_DESCRIPTORS: usize = 4;
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
    /// Command whose streams are replaced by the descriptors that are sent.
    pub(crate) command: Command,
    /// Set if the first descriptor is standard input. Standard output, standard error, and the pipe to which the child
    /// writes its process ID follow.
    pub(crate) has_stdin: bool,
    pub(crate) complete: Completion,
}

/// Dispatcher thread, which receives the starts and passes each of them to an idle worker or to a new one. A new worker
/// copies the table of the dispatcher.
struct Dispatcher {
    socket: OwnedFd,
    starts: Sender<Start>,
}

static DISPATCHER: Mutex<Option<Dispatcher>> = Mutex::new(None);

/// Starts the dispatcher thread and the reply thread, if they do not run yet.
pub(crate) fn prepare() -> io::Result<()> {
    start_if_needed(&mut DISPATCHER.lock()).map(drop)
}

/// Starts a child process on a thread of its own. For `descriptors`, see [`Start::has_stdin`].
pub(crate) fn run(start: Start, descriptors: &[OwnedFd]) -> io::Result<()> {
    // The lock is held until the start is queued, so that the order of the starts and of the descriptors is the same.
    let mut dispatcher = DISPATCHER.lock();
    let Dispatcher { socket, starts } = start_if_needed(&mut dispatcher)?;
    send_descriptors(socket, descriptors)?;
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
        if block_signals().is_ok() && descriptor_table::leave(received.as_raw_fd()) {
            descriptor_table::clear_standard_streams();
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

/// Set if this process ignores SIGXFSZ, which its children do not inherit.
static IGNORES_FILE_SIZE: AtomicBool = AtomicBool::new(false);

/// Ignores the signal for a file that exceeds its size limit (`ulimit -f`). The write then fails with an error.
pub(crate) fn ignore_file_size_signal() {
    #[allow(unsafe_code, reason = "the call changes the disposition of a signal without a handler")]
    let previous = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    if previous == libc::SIG_DFL {
        IGNORES_FILE_SIZE.store(true, Ordering::Relaxed);
    }
}

/// Resets the signal handlers in a forked child, and unblocks the signals. Allocates nothing.
///
/// A handler of this process would catch a signal until the child executes its program, which resets the handlers too.
pub(crate) fn reset_signals_in_child() {
    #[allow(unsafe_code, reason = "the calls access local structures only")]
    unsafe {
        for signal in 1..=MAX_SIGNAL {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed();
            let is_reset = libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
                && (action.assume_init().sa_sigaction != libc::SIG_IGN
                    || (signal == libc::SIGXFSZ && IGNORES_FILE_SIZE.load(Ordering::Relaxed)));
            if is_reset {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        if let Some(initial) = INITIAL_MASK.get() {
            libc::pthread_sigmask(libc::SIG_SETMASK, initial, std::ptr::null_mut());
        }
    }
}

fn unblock_child_signal() {
    #[allow(unsafe_code, reason = "the calls access only the local set of signals")]
    unsafe {
        let mut child = MaybeUninit::uninit();
        libc::sigemptyset(child.as_mut_ptr());
        libc::sigaddset(child.as_mut_ptr(), libc::SIGCHLD);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, child.as_ptr(), std::ptr::null_mut());
    }
}

/// Result of a start, and the function that receives it.
type Reply = (Completion, io::Result<Child>);

/// Reports the results of the starts. This thread uses the shared table of file descriptors. It accepts SIGCHLD, which
/// announces the exit of a child: the process may have inherited it as blocked.
fn reply(results: Receiver<Reply>) {
    unblock_child_signal();
    for (complete, result) in results {
        let _ = panics::catch(|| complete(result));
    }
}

/// Indices of the workers that wait for a start. No worker ever ends, because a child gets its death signal when its
/// thread ends.
type IdleWorkers = Arc<Mutex<Vec<usize>>>;

/// Thread that starts children. Its own table of file descriptors contains the other end of the socket.
struct Worker {
    socket: OwnedFd,
    starts: Sender<Start>,
}

fn dispatch(socket: &OwnedFd, queue: Receiver<Start>, replies: &Sender<Reply>) {
    let idle = IdleWorkers::default();
    let mut workers: Vec<Worker> = Vec::new();
    for start in queue {
        let received = receive_descriptors(socket);
        let idle_worker = idle.lock().pop();
        let index = idle_worker.map_or_else(
            || {
                let index = workers.len();
                workers.push(start_worker(index, &idle, replies)?);
                Ok(index)
            },
            Ok,
        );
        // The descriptors are closed in the table of this thread when they are sent.
        let sent = received.and_then(|descriptors| {
            let index =
                index.as_ref().map_err(|error: &io::Error| io::Error::from(error.kind()))?;
            let Some(worker) = workers.get(*index) else { return Err(ErrorKind::NotFound.into()) };
            send_descriptors(&worker.socket, &descriptors)?;
            Ok(worker)
        });
        match (sent, index) {
            // A worker does not end.
            (Ok(worker), _) => drop(worker.starts.send(start)),
            (Err(error), index) => {
                idle.lock().extend(index);
                let _ = replies.send((start.complete, Err(error)));
            }
        }
    }
}

/// Starts a worker with a copy of the table of the calling thread.
fn start_worker(index: usize, idle: &IdleWorkers, replies: &Sender<Reply>) -> io::Result<Worker> {
    let flags = SocketFlags::CLOEXEC;
    let (socket, received) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let (starts, queue) = channel();
    let (left, has_left) = channel();
    let (idle, replies, descriptor) = (Arc::clone(idle), replies.clone(), received.as_raw_fd());
    start_thread(move || {
        let _ = left.send(descriptor_table::leave(descriptor));
        #[allow(
            unsafe_code,
            reason = "the descriptor is that of the copied table, or the dispatcher hands it over"
        )]
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        work(index, &socket, queue, &idle, &replies);
    })?;
    // Without a table of its own, the worker owns the descriptor of the present table.
    if has_left.recv() == Ok(false) {
        let _ = received.into_raw_fd();
    }
    Ok(Worker { socket, starts })
}

/// Starts children, one at a time.
fn work(
    index: usize,
    socket: &OwnedFd,
    queue: Receiver<Start>,
    idle: &IdleWorkers,
    replies: &Sender<Reply>,
) {
    for Start { command, has_stdin, complete } in queue {
        let result = receive_descriptors(socket).and_then(|descriptors| {
            let spawned = panics::catch(move || spawn(command, has_stdin, descriptors));
            spawned.unwrap_or_else(|panic| Err(io::Error::other(panic)))
        });
        idle.lock().push(index);
        let _ = replies.send((complete, result));
    }
}

/// Spawns the command. Its handle contains no descriptor, since the streams are given. The descriptors are closed in the
/// table of this thread.
fn spawn(mut command: Command, has_stdin: bool, descriptors: Vec<OwnedFd>) -> io::Result<Child> {
    let mut descriptors = descriptors.into_iter();
    if has_stdin && let Some(stdin) = descriptors.next() {
        command.stdin(stdin);
    }
    let (Some(stdout), Some(stderr), Some(id_pipe)) =
        (descriptors.next(), descriptors.next(), descriptors.next())
    else {
        return Err(ErrorKind::UnexpectedEof.into());
    };
    command.stdout(stdout).stderr(stderr);
    let descriptor = id_pipe.as_raw_fd();
    let write_id = move || {
        #[allow(unsafe_code, reason = "the call reads a local array")]
        unsafe {
            let id = libc::getpid().to_ne_bytes();
            libc::write(descriptor, id.as_ptr().cast(), id.len());
        }
        Ok(())
    };
    #[allow(unsafe_code, reason = "the closure makes async-signal-safe calls only")]
    unsafe {
        command.pre_exec(write_id);
    }
    command.spawn()
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
        os::fd::{AsRawFd, BorrowedFd, RawFd},
    };

    /// Gives the calling thread its own table of file descriptors, which contains `socket` and the descriptors that this
    /// process inherited. If the system does not permit it, the thread keeps its table, and the result is `false`.
    pub(super) fn leave(socket: RawFd) -> bool {
        // Without `/proc`, the open files of other threads would stay open in the new table.
        if list().is_none() || !unshare() {
            return false;
        }
        for descriptor in list().unwrap_or_default() {
            if descriptor != socket && is_closed_on_exec(descriptor) {
                #[allow(unsafe_code, reason = "no other code uses descriptors of this new table")]
                unsafe {
                    libc::close(descriptor);
                }
            }
        }
        true
    }

    /// Makes standard input, output and error of the own table `/dev/null`: a child replaces them by its own streams, and
    /// the close of the previous ones may hang.
    pub(super) fn clear_standard_streams() {
        let Ok(null) = fs::OpenOptions::new().read(true).write(true).open("/dev/null") else {
            return;
        };
        for descriptor in 0..=2 {
            #[allow(unsafe_code, reason = "no other code uses descriptors of this new table")]
            unsafe {
                libc::dup2(null.as_raw_fd(), descriptor);
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
