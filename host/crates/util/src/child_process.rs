//! Start of child processes, so that they do not outlive this process, and so that no open file of this process delays
//! their start.
//!
//! On Linux, a child process can request a signal for the death of its parent (`PR_SET_PDEATHSIG`). The kernel
//! sends it when the *thread* that started the child ends, and threads of async runtimes end before the process
//! does. Children are therefore started on threads that end with the process only.

#[cfg(target_os = "linux")]
use crate::spawned_child;
use crate::sync::Mutex;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, PipeReader, PipeWriter, Read},
    mem,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::{
    process::Command,
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

pub use crate::piped_streams::Pipes;
#[cfg(target_os = "linux")]
pub use crate::spawned_child::{Child, ChildStderr, ChildStdin, ChildStdout};
#[cfg(not(target_os = "linux"))]
pub use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};

/// Number of the signal `SIGKILL`.
pub const SIGKILL: i32 = 9;

/// Time limit for the start of a process. The system reads the program from its file system, which may hang.
const SPAWN_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit of the wait for a start permit. Starts of programs on slow file systems can hold all permits.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum number of concurrent starts, each on a thread.
const MAX_CONCURRENT_STARTS: usize = 64;

static START_PERMITS: Semaphore = Semaphore::const_new(MAX_CONCURRENT_STARTS);

/// Prepares the start of child processes. A program should call this function before it opens files: on Linux, the
/// children inherit the file descriptors that the program itself has inherited, but only if they were open at the first
/// call of this function or of [`spawn`].
///
/// # Errors
///
/// A thread or a socket cannot be created. The next call tries it again.
pub fn prepare() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return crate::child_spawning_threads::prepare();
    #[cfg(not(target_os = "linux"))]
    Ok(())
}

/// Makes a write that exceeds the file-size limit (`ulimit -f`) an error, instead of a signal that ends the program.
/// Children get the default.
pub fn ignore_file_size_signal() {
    #[cfg(target_os = "linux")]
    crate::child_spawning_threads::ignore_file_size_signal();
}

/// Spawns a command. On Linux, the kernel sends the signal with the number `death_signal` to the child when this
/// process ends, however it ends. The child is killed when its handle is dropped.
///
/// The kernel forgets the signal when the child executes a set-user-ID, set-group-ID or privileged program.
/// Descendants of the child get no signal. On other systems, the child continues.
///
/// On Linux, the child gets no file that this process has opened, not even until it executes its program.
///
/// The caller should check first that the file systems of the program and of the working directory answer. A child that
/// hangs between `fork` and `exec` is killed after ten seconds, if the system permits it.
///
/// # Errors
///
/// The error of the spawn, or an error if the process does not start within ten seconds. Until such a start returns, other
/// starts of the same program in the same directory are errors. While 64 other processes are being started, the call
/// first waits, for one minute at most.
///
/// # Panics
///
/// Panics outside of a tokio runtime with timers and I/O.
pub async fn spawn(command: Command, pipes: Pipes, death_signal: i32) -> io::Result<Child> {
    spawn_within(SPAWN_TIMEOUT, command, pipes, death_signal).await
}

async fn spawn_within(
    limit: Duration,
    command: Command,
    pipes: Pipes,
    death_signal: i32,
) -> io::Result<Child> {
    let key = StartKey::of(&command);
    if HUNG_STARTS.lock().contains_key(&key) {
        return Err(not_started("an earlier start has not returned"));
    }
    let Ok(Ok(permit)) = timeout(QUEUE_TIMEOUT, START_PERMITS.acquire()).await else {
        return Err(not_started(&format!(
            "{MAX_CONCURRENT_STARTS} other commands have not started"
        )));
    };
    let progress = Arc::new(Progress { key, state: Mutex::default() });
    let running = RunningStart { _permit: permit, progress: Arc::clone(&progress) };
    let (id_reader, id_pipe) = io::pipe()?;
    match timeout(limit, start(command, pipes, death_signal, id_pipe, running)).await {
        Ok(started) => started,
        Err(_) => {
            progress.give_up(id_reader);
            Err(not_started(&format!("not started within {limit:?}")))
        }
    }
}

fn not_started(reason: &str) -> io::Error {
    let message = format!("{reason}; does its file system respond?");
    io::Error::new(io::ErrorKind::TimedOut, message)
}

/// Program and working directory of a command.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct StartKey(OsString, Option<PathBuf>);

impl StartKey {
    fn of(command: &Command) -> Self {
        let command = command.as_std();
        let directory = command.get_current_dir().map(Into::into);
        Self(command.get_program().to_owned(), directory)
    }
}

/// Starts that have exceeded their time limit and have not returned, with their number.
static HUNG_STARTS: Mutex<BTreeMap<StartKey, usize>> = Mutex::new(BTreeMap::new());

/// Progress of one start.
struct Progress {
    key: StartKey,
    state: Mutex<StartState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum StartState {
    #[default]
    Running,
    /// The time limit has passed.
    Hung,
    Returned,
}

impl Progress {
    /// Records that the start has not returned in time, and kills the child. `id_reader` is the pipe with its process ID.
    fn give_up(&self, mut id_reader: PipeReader) {
        let mut state = self.state.lock();
        if *state == StartState::Returned {
            return;
        }
        *state = StartState::Hung;
        *HUNG_STARTS.lock().entry(self.key.clone()).or_default() += 1;
        // The status of the child is read only after the start has returned, so its ID is not reused. A child that has not
        // written its ID yet has not reached its program.
        #[cfg(target_os = "linux")]
        {
            use rustix::{
                event::{PollFd, PollFlags, Timespec, poll},
                process::{Pid, Signal, kill_process},
            };
            let mut is_written = [PollFd::new(&id_reader, PollFlags::IN)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            let mut id = [0; 4];
            if poll(&mut is_written, Some(&now)).is_ok_and(|ready| ready > 0)
                && id_reader.read_exact(&mut id).is_ok()
                && let Some(id) = Pid::from_raw(i32::from_ne_bytes(id))
            {
                let _ = kill_process(id, Signal::KILL);
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = id_reader.read(&mut []);
    }
}

/// Start that has not returned yet.
struct RunningStart {
    _permit: SemaphorePermit<'static>,
    progress: Arc<Progress>,
}

impl Drop for RunningStart {
    fn drop(&mut self) {
        let mut state = self.progress.state.lock();
        if mem::replace(&mut *state, StartState::Returned) == StartState::Hung {
            let mut hung = HUNG_STARTS.lock();
            if let Some(number) = hung.get_mut(&self.progress.key) {
                *number -= 1;
                if *number == 0 {
                    hung.remove(&self.progress.key);
                }
            }
        }
    }
}

/// Starts the command on a thread that ends with the process only. Drops `running` when the start has
/// returned, even if the caller gives up earlier.
#[cfg(target_os = "linux")]
async fn start(
    command: Command,
    pipes: Pipes,
    death_signal: i32,
    id_pipe: PipeWriter,
    running: RunningStart,
) -> io::Result<Child> {
    let mut command = command.into_std();
    request_death_signal(&mut command, death_signal);
    spawned_child::start(command, pipes, id_pipe.into(), running).await
}

/// Starts the command on a thread, since the start may hang. Drops `running` when the start has returned,
/// even if the caller gives up earlier.
#[cfg(not(target_os = "linux"))]
async fn start(
    mut command: Command,
    pipes: Pipes,
    _death_signal: i32,
    _id_pipe: PipeWriter,
    running: RunningStart,
) -> io::Result<Child> {
    use std::process::Stdio;
    command.kill_on_drop(true);
    if pipes.stdin {
        command.stdin(Stdio::piped());
    }
    if pipes.output {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let spawn = move || {
        let _running = running;
        let _context = runtime.enter();
        let _ = sender.send(command.spawn());
    };
    std::thread::Builder::new().name("reloader-spawn".into()).spawn(spawn)?;
    receiver.await.unwrap_or_else(|_| Err(io::Error::other("spawning failed")))
}

#[cfg(target_os = "linux")]
fn request_death_signal(command: &mut std::process::Command, death_signal: i32) {
    use crate::{child_spawning_threads, open_file_limit};
    use std::os::unix::process::CommandExt as _;
    let parent = std::process::id();
    let request = move || {
        // A child that hangs before it executes its program ends through the death signal only without a handler.
        child_spawning_threads::reset_signals_in_child();
        #[allow(
            unsafe_code,
            reason = "no call reads memory, and a forked child may only make calls that allocate nothing"
        )]
        let (result, current_parent) =
            unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, death_signal), libc::getppid()) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        open_file_limit::restore_in_child();
        // The kernel sends no signal if the parent died before the request. The start then fails.
        let is_orphan = u32::try_from(current_parent) != Ok(parent);
        if is_orphan { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    };
    #[allow(unsafe_code, reason = "the closure makes async-signal-safe calls only")]
    unsafe {
        command.pre_exec(request);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::{
        ffi::CString,
        fs::File,
        os::{fd::AsRawFd, unix::ffi::OsStrExt},
        path::Path,
        thread,
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        runtime::Builder,
    };

    const PIPES: Pipes = Pipes { stdin: true, output: true };

    fn runtime() -> tokio::runtime::Runtime {
        Builder::new_current_thread().enable_all().build().expect("the runtime starts")
    }

    /// The child is not started by the thread that calls [`spawn`]: the kernel would kill the child when that thread
    /// ends.
    #[test]
    fn child_survives_the_thread_that_requested_it() {
        let runtime = runtime();
        let handle = runtime.handle().clone();
        let request = thread::spawn(move || {
            handle.block_on(spawn(Command::new("cat"), PIPES, SIGKILL)).unwrap()
        });
        // `spawn` on the other thread uses a timer of this runtime. The timer works only while this thread runs the
        // runtime.
        let (mut child, answer) = runtime.block_on(async {
            let mut child = tokio::task::spawn_blocking(|| request.join().unwrap()).await.unwrap();
            child.stdin.take().unwrap().write_all(b"alive").await.unwrap();
            let mut answer = String::new();
            child.stdout.take().unwrap().read_to_string(&mut answer).await.unwrap();
            (child, answer)
        });
        assert_eq!(answer, "alive");
        assert!(runtime.block_on(child.wait()).unwrap().success());
    }

    /// The threads that start children block all signals.
    #[test]
    fn child_blocks_no_signals() {
        runtime().block_on(async {
            let mut command = Command::new("grep");
            command.args(["SigBlk", "/proc/self/status"]);
            let mut child = spawn(command, PIPES, SIGKILL).await.unwrap();
            let mut status = String::new();
            child.stdout.take().unwrap().read_to_string(&mut status).await.unwrap();
            assert_eq!(status, "SigBlk:\t0000000000000000\n");
            assert!(child.wait().await.unwrap().success());
        });
    }

    /// A killed child is waited for in a task, so that it does not remain as a zombie.
    #[test]
    fn dropped_child_is_killed_and_reaped() {
        runtime().block_on(async {
            let child = spawn(Command::new("cat"), PIPES, SIGKILL).await.unwrap();
            let process = format!("/proc/{}", child.id().unwrap());
            assert!(std::fs::exists(&process).unwrap());
            drop(child);
            while std::fs::exists(&process).unwrap() {
                tokio::task::yield_now().await;
            }
        });
    }

    /// The child has to close a copied file before it executes its program, and the close may hang.
    #[test]
    fn child_gets_no_file_that_was_opened_later() {
        prepare().unwrap();
        let (file, _other_end) = io::pipe().unwrap();
        // A number that no other file of this process has.
        let file = rustix::io::fcntl_dupfd_cloexec(&file, 900).unwrap();
        let fd = file.as_raw_fd();
        let check = move || {
            #[allow(unsafe_code, reason = "the call reads no memory")]
            let is_open = unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
            if is_open { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(()) }
        };
        let mut command = Command::new("true");
        #[allow(unsafe_code, reason = "the closure makes an async-signal-safe call only")]
        unsafe {
            command.pre_exec(check);
        }
        runtime().block_on(async {
            let mut child = spawn(command, Pipes::default(), SIGKILL).await.unwrap();
            assert!(child.wait().await.unwrap().success());
        });
    }

    /// Returns a command whose start hangs until another process opens the FIFO for writing.
    fn hung_command(fifo: &Path) -> Command {
        let fifo = CString::new(fifo.as_os_str().as_bytes()).expect("a path without NUL");
        let wait = move || {
            #[allow(unsafe_code, reason = "the path is a valid string during the call")]
            let result = unsafe { libc::open(fifo.as_ptr(), libc::O_RDONLY) };
            if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        };
        let mut command = Command::new("/bin/true");
        #[allow(unsafe_code, reason = "the closure makes an async-signal-safe call only")]
        unsafe {
            command.pre_exec(wait);
        }
        command
    }

    /// Until the start returns, the same command is not started again.
    #[test]
    fn hung_start_is_an_error_and_delays_no_other_start() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        runtime().block_on(async {
            let limit = Duration::from_millis(1);
            let start = || spawn_within(limit, hung_command(&fifo), PIPES, SIGKILL);
            for expected in ["not started within 1ms", "an earlier start has not returned"] {
                let error = start().await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                assert!(error.to_string().starts_with(expected), "{error}");
            }
            let mut other = spawn(Command::new("true"), Pipes::default(), SIGKILL).await.unwrap();
            assert!(other.wait().await.unwrap().success());
            File::options().write(true).open(&fifo).unwrap();
            while !HUNG_STARTS.lock().is_empty() {
                tokio::task::yield_now().await;
            }
        });
    }

    #[test]
    fn program_that_does_not_exist_is_an_error() {
        let error = runtime().block_on(spawn(Command::new("/no/such/program"), PIPES, SIGKILL));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
