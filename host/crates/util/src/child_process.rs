//! Start of child processes, so that they do not outlive this process.
//!
//! On Linux, a child process can request a signal for the death of its parent (`PR_SET_PDEATHSIG`). The kernel
//! sends it when the *thread* that started the child ends, and threads of async runtimes end before the process
//! does. Children are therefore started on threads that end with the process only.

#[cfg(target_os = "linux")]
use crate::open_file_limit;
use crate::{panics, sync::Mutex};
use std::{
    io,
    sync::mpsc::{Sender, channel},
    thread,
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    runtime::Handle,
    sync::{Semaphore, oneshot},
    time::timeout,
};

/// Number of the signal `SIGKILL`.
pub const SIGKILL: i32 = 9;

/// Time limit for the start of a process. The system reads the program from its file system, which may hang.
const SPAWN_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit of the wait for a start permit. Starts of programs on slow file systems can hold all permits.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum number of concurrent starts, each on a thread.
const MAX_CONCURRENT_STARTS: usize = 64;
/// Stack size of a thread, in bytes.
const STACK_BYTES: usize = 256 << 10;

/// Closure that starts one child process.
type Job = Box<dyn FnOnce() + Send>;

/// Idle threads. No thread ever ends.
static IDLE_THREADS: Mutex<Vec<Sender<Job>>> = Mutex::new(Vec::new());
static START_PERMITS: Semaphore = Semaphore::const_new(MAX_CONCURRENT_STARTS);

/// Spawns a command. On Linux, the kernel sends the signal with the number `death_signal` to the child when this
/// process ends, however it ends.
///
/// The kernel forgets the signal when the child executes a set-user-ID, set-group-ID or privileged program.
/// Descendants of the child get no signal. On other systems, the child continues.
///
/// The caller must check first that the file systems of the program and of the working directory answer. A child that
/// hangs between `fork` and `exec` cannot be killed, and holds the host's pipes, sockets and file locks.
///
/// # Errors
///
/// The error of the spawn, or an error if the process does not start within ten seconds. While 64 other processes are
/// being started, the call first waits, for one minute at most.
///
/// # Panics
///
/// Panics outside of a tokio runtime with timers and I/O.
pub async fn spawn(command: Command, death_signal: i32) -> io::Result<Child> {
    spawn_within(SPAWN_TIMEOUT, command, death_signal).await
}

async fn spawn_within(
    limit: Duration,
    mut command: Command,
    death_signal: i32,
) -> io::Result<Child> {
    request_death_signal(&mut command, death_signal);
    let Ok(Ok(permit)) = timeout(QUEUE_TIMEOUT, START_PERMITS.acquire()).await else {
        let message = format!("{MAX_CONCURRENT_STARTS} other commands have not started yet");
        return Err(io::Error::new(io::ErrorKind::TimedOut, message));
    };
    let runtime = Handle::current();
    let (sender, receiver) = oneshot::channel();
    start_job(Box::new(move || {
        // Held until the process has started, even if the caller gives up earlier.
        let _permit = permit;
        let _context = runtime.enter();
        // Drops the child if the caller has given up. The child is then killed if the command has `kill_on_drop`.
        let _ = sender.send(command.spawn());
    }))?;
    match timeout(limit, receiver).await {
        Ok(spawned) => spawned.unwrap_or_else(|_| Err(io::Error::other("spawning failed"))),
        Err(_) => {
            let message = format!("not started within {limit:?}; does its file system respond?");
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        }
    }
}

/// Runs a job on an idle thread, or on a new one.
fn start_job(job: Job) -> io::Result<()> {
    let idle = IDLE_THREADS.lock().pop();
    let thread = idle.map_or_else(start_thread, Ok)?;
    let ended = |_| io::Error::other("the thread that starts commands has ended");
    thread.send(job).map_err(ended)
}

fn start_thread() -> io::Result<Sender<Job>> {
    let (thread, jobs) = channel::<Job>();
    let this = thread.clone();
    let run = move || {
        for job in jobs {
            // `Command::spawn` panics if the runtime is shutting down.
            let _ = panics::catch(job);
            IDLE_THREADS.lock().push(this.clone());
        }
    };
    let builder = thread::Builder::new().name("reloader-spawn".into()).stack_size(STACK_BYTES);
    builder.spawn(run).map(|_| thread)
}

#[cfg(target_os = "linux")]
fn request_death_signal(command: &mut Command, death_signal: i32) {
    let parent = std::process::id();
    let request = move || {
        #[allow(
            unsafe_code,
            reason = "no call reads memory, and a forked child may only make calls that allocate nothing"
        )]
        let (result, current_parent) = unsafe {
            // A handler of this process would catch the signal until the child executes its program. A child that
            // hangs before would not end.
            libc::signal(death_signal, libc::SIG_DFL);
            (libc::prctl(libc::PR_SET_PDEATHSIG, death_signal), libc::getppid())
        };
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

#[cfg(not(target_os = "linux"))]
fn request_death_signal(_command: &mut Command, _death_signal: i32) {}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::{
        io::{PipeReader, Write},
        os::fd::AsRawFd,
        process::Stdio,
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        runtime::Builder,
    };

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
            let mut command = Command::new("cat");
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
            handle.block_on(spawn(command, SIGKILL)).unwrap()
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

    /// Returns a command whose start hangs until `released` is readable.
    fn hung_command(released: &PipeReader) -> Command {
        let fd = released.as_raw_fd();
        let wait = move || {
            let mut released = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            // The timeout of `poll`, 20 seconds, ends the child if the test fails.
            #[allow(unsafe_code, reason = "the pointer is valid during the call")]
            let result = unsafe { libc::poll(&raw mut released, 1, 20_000) };
            if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        };
        let mut command = Command::new("true");
        command.kill_on_drop(true);
        #[allow(unsafe_code, reason = "the closure makes an async-signal-safe call only")]
        unsafe {
            command.pre_exec(wait);
        }
        command
    }

    #[test]
    fn hung_start_is_an_error_and_delays_no_other_start() {
        let (released, mut release) = io::pipe().unwrap();
        runtime().block_on(async {
            let limit = Duration::from_millis(1);
            let error = spawn_within(limit, hung_command(&released), SIGKILL).await;
            assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
            let mut other = spawn(Command::new("true"), SIGKILL).await.unwrap();
            assert!(other.wait().await.unwrap().success());
            release.write_all(b"x").unwrap();
        });
    }

    #[test]
    fn program_that_does_not_exist_is_an_error() {
        let error = runtime().block_on(spawn(Command::new("/no/such/program"), SIGKILL));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
