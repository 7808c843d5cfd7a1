//! Compiler of components: on a thread of low priority in this process, or in a child process.

use crate::{
    compiler_process::{EXIT_COMPILE_ERROR, compile_threads},
    limits::Limits,
};
use reloader_util::{child_process, sanitize::sanitize, thread_priority_pool::ThreadPriority};
use std::{path::PathBuf, process::Stdio, sync::Arc, thread};
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

/// Returns the error of a compiled component that exceeds its size limit.
pub(crate) fn too_large(limits: &Limits) -> String {
    format!("the compiled component is too large: {}", limits.cite("compiled-size"))
}

/// Compiles a component on a new thread. The permit is held until the thread ends.
pub(crate) async fn compile_in_thread(
    engine: Engine,
    component: Arc<[u8]>,
    permit: OwnedSemaphorePermit,
) -> Result<Vec<u8>, String> {
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
    thread.map_err(|error| format!("cannot start a thread for the compiler: {error}"))?;
    wait.await.unwrap_or_else(|_| Err("the compiler panicked".into()))
}

/// Compiles a component in a child process.
pub(crate) async fn compile_in_process(
    program: &PathBuf,
    component: &[u8],
    limits: &Limits,
) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("compiler process failed: {error}");
    let mut command = Command::new(program);
    command
        .arg("compile")
        .args([limits.compile_time.as_secs().to_string(), limits.compile_memory.to_string()])
        // Untrusted input: the process gets no environment variables of the operator.
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut compiler =
        child_process::spawn(command, child_process::SIGKILL).await.map_err(failed)?;
    let (stdin, stdout, stderr) =
        (compiler.stdin.take(), compiler.stdout.take(), compiler.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err("compiler process failed: no pipes".into());
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
        return Err(too_large(limits));
    }
    // Standard error is read after standard output. Until then the process does not block on it, because the message
    // fits into the buffer of the pipe.
    stderr.read_to_end(&mut message).await.map_err(failed)?;
    let status = compiler.wait().await.map_err(failed)?;
    if status.success() {
        return Ok(compiled);
    }
    if status.code() == Some(EXIT_COMPILE_ERROR.into()) {
        let message = sanitize(String::from_utf8_lossy(&message).trim_end());
        if !message.contains("out of memory") {
            return Err(message);
        }
    }
    // A resource limit killed the process, or the process aborted because it had no memory.
    let (time, memory) = (limits.cite("compile-time"), limits.cite("compile-memory"));
    Err(format!("compilation exceeded a limit of time or memory: {time}, {memory}"))
}
