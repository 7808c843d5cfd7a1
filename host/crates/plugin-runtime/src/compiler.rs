//! Compiler of components: on a thread of low priority in this process, or in a child process.

use crate::{
    compiler_process::{EXIT_COMPILE_ERROR, EXIT_NO_THREADS, compile_threads},
    limits::Limits,
    load_error::LoadReason,
};
use reloader_util::{
    child_process::{self, Pipes},
    sanitize::sanitize,
    thread_priority_pool::ThreadPriority,
};
use std::{io, path::PathBuf, sync::Arc, thread};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    sync::{OwnedSemaphorePermit, oneshot},
};
use wasmtime::Engine;

/// Maximum length of the error message of a compiler process, in bytes.
const MAX_COMPILER_STDERR_BYTES: u64 = 4096;

/// Name of the threads of a compilation in this process. Linux truncates names of threads to 15 bytes.
const THREAD_NAME: &str = "reloader-compil";

/// Process in which WebAssembly components are compiled.
#[derive(Debug, Clone, Default)]
pub enum Compiler {
    /// In this process, on separate threads. A compilation that exceeds its deadline is abandoned, but runs to
    /// its end.
    #[default]
    InProcess,
    /// In a child process, which is killed when it exceeds its limits of time or memory. The path names a program that
    /// calls [`run_compiler_process`](crate::run_compiler_process) if its arguments are `compile SECONDS BYTES`, such
    /// as the program `host`.
    ChildProcess(PathBuf),
}

/// Reason why there is no compiled component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CompileError {
    /// The component is invalid, or its compilation exceeds a limit.
    Component(String),
    /// The system lacks a resource for the compilation.
    NoResources(String),
}

impl CompileError {
    /// Returns the error of a compiled component that exceeds its size limit.
    pub(crate) fn too_large(limits: &Limits) -> Self {
        let limit = limits.cite("compiled-size");
        Self::Component(format!("the compiled component is too large: {limit}"))
    }

    fn no_thread() -> Self {
        Self::NoResources(
            "cannot start the compiler: the system cannot start a thread; hint: check the limit of processes \
             (`ulimit -u`, `pids.max`, `TasksMax`)"
                .into(),
        )
    }
}

impl From<CompileError> for LoadReason {
    fn from(error: CompileError) -> Self {
        match error {
            CompileError::Component(reason) => Self::Unusable(reason),
            CompileError::NoResources(reason) => Self::NoResources(reason),
        }
    }
}

/// Compiles a component on a new thread. The permit is held until the thread ends.
pub(crate) async fn compile_in_thread(
    engine: Engine,
    component: Arc<[u8]>,
    permit: OwnedSemaphorePermit,
) -> Result<Vec<u8>, CompileError> {
    let (done, wait) = oneshot::channel();
    let compile = move || {
        let _permit = permit;
        ThreadPriority::Background.apply();
        // wasmtime compiles on the threads of the rayon pool from which it is called.
        let threads = rayon::ThreadPoolBuilder::new().num_threads(compile_threads());
        let threads = threads
            .thread_name(|_| THREAD_NAME.into())
            .start_handler(|_| ThreadPriority::Background.apply())
            .build();
        let compile = || engine.precompile_component(&component);
        let result = threads.map_or_else(|_| compile(), |threads| threads.install(compile));
        let _ = done.send(result.map_err(|error| error.root_cause().to_string()));
    };
    let thread = thread::Builder::new().name(THREAD_NAME.into()).spawn(compile);
    thread.map_err(|_| CompileError::no_thread())?;
    let compiled = wait.await.unwrap_or_else(|_| Err("the compiler panicked".into()));
    compiled.map_err(CompileError::Component)
}

/// Compiles a component in a child process.
pub(crate) async fn compile_in_process(
    program: &PathBuf,
    component: &[u8],
    limits: &Limits,
) -> Result<Vec<u8>, CompileError> {
    let failed =
        |error: io::Error| CompileError::Component(format!("compiler process failed: {error}"));
    let mut command = Command::new(program);
    command
        .arg("compile")
        .args([limits.compile_time.as_secs().to_string(), limits.compile_memory.to_string()])
        // Untrusted input: the process gets no environment variables of the operator.
        .env_clear()
        .current_dir("/");
    let pipes = Pipes { stdin: true, output: true };
    let mut compiler =
        child_process::spawn(command, pipes, child_process::SIGKILL).await.map_err(|error| {
            match error.kind() {
                io::ErrorKind::WouldBlock => CompileError::no_thread(),
                _ => CompileError::NoResources(format!("cannot start the compiler: {error}")),
            }
        })?;
    let (stdin, stdout, stderr) =
        (compiler.stdin.take(), compiler.stdout.take(), compiler.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(failed(io::Error::other("no pipes")));
    };
    let send = async {
        // Ignores the error of a compiler that fails before it has read all input: standard error has the reason.
        let _ = stdin.write_all(component).await;
        drop(stdin);
    };
    let (mut compiled, mut message) = (Vec::new(), Vec::new());
    let max = (limits.compiled_size as u64).saturating_add(1);
    let (mut stdout, mut stderr) = (stdout.take(max), stderr.take(MAX_COMPILER_STDERR_BYTES));
    let ((), received) = tokio::join!(send, stdout.read_to_end(&mut compiled));
    if received.map_err(failed)? as u64 == max {
        return Err(CompileError::too_large(limits));
    }
    // Standard error is read after standard output. Until then the process does not block on it, because the message
    // fits into the buffer of the pipe.
    stderr.read_to_end(&mut message).await.map_err(failed)?;
    let status = compiler.wait().await.map_err(failed)?;
    if status.success() {
        return Ok(compiled);
    }
    let message = sanitize(String::from_utf8_lossy(&message).trim_end());
    match status.code().map(u8::try_from) {
        Some(Ok(EXIT_COMPILE_ERROR)) if !message.contains("out of memory") => {
            return Err(CompileError::Component(message));
        }
        Some(Ok(EXIT_NO_THREADS)) => return Err(CompileError::no_thread()),
        _ => {}
    }
    // A resource limit killed the process, or the process aborted because it had no memory.
    let (time, memory) = (limits.cite("compile-time"), limits.cite("compile-memory"));
    Err(CompileError::Component(format!(
        "compilation exceeded a limit of time or memory: {time}, {memory}"
    )))
}
