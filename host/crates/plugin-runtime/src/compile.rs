//! Compilation of components: bounded in time, memory and concurrency, with low priority and a negative cache.

use crate::limits::Limits;
use reloader_util::{priority_pool::ThreadPriority, sanitize::sanitize, sync::Mutex};
use std::{
    collections::VecDeque,
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};
use wasmtime::{Config, Engine, OptLevel};

/// Maximum number of components that are compiled concurrently.
const MAX_CONCURRENT_COMPILES: usize = 2;
/// Maximum number of threads for one component. Each takes memory.
const MAX_COMPILE_THREADS: usize = 4;
/// Duration above which a failed compilation is cached.
const NEGATIVE_CACHE_THRESHOLD: Duration = Duration::from_secs(1);
/// Time for which a failed compilation is not repeated.
const NEGATIVE_CACHE_TTL: Duration = Duration::from_secs(600);
/// Maximum number of cached failures.
const MAX_NEGATIVE_CACHE_ENTRIES: usize = 32;
/// Maximum length of the error message of a compiler process, in bytes.
const MAX_COMPILER_STDERR_BYTES: u64 = 4096;
/// Exit status of a compiler process that reports an error of the component.
const EXIT_COMPILE_ERROR: u8 = 3;

/// Place where components are compiled.
#[derive(Debug, Clone, Default)]
pub enum Compiler {
    /// In this process, on separate threads. A compilation that exceeds its deadline is abandoned, but runs to
    /// its end.
    #[default]
    Here,
    /// In a child process, which is killed when it exceeds its limits of time or memory: this program, with the
    /// argument `compile`. `host` is such a program; see [`serve`].
    Program(PathBuf),
}

/// Returns an engine with the settings of the compiler. All cached components depend on them.
pub(crate) fn engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        // Copy-on-write needs seven mappings an instance, which exceeds `vm.max_map_count` at 9,000 instances.
        .memory_init_cow(false)
        .max_wasm_stack(512 << 10)
        .async_stack_size(1 << 20);
    Engine::new(&config)
}

/// Queue of compilations: bounds their concurrency, and caches slow failures.
#[derive(Debug)]
pub(crate) struct CompileQueue {
    compiler: Compiler,
    permits: Arc<Semaphore>,
    negative_cache: Mutex<VecDeque<FailedCompile>>,
}

/// Entry of the negative cache.
#[derive(Debug)]
struct FailedCompile {
    digest: String,
    limits: Limits,
    error: String,
    at: Instant,
}

impl CompileQueue {
    pub(crate) fn new(compiler: Compiler) -> Self {
        let permits = Arc::new(Semaphore::new(MAX_CONCURRENT_COMPILES));
        Self { compiler, permits, negative_cache: Mutex::default() }
    }

    /// Compiles a component with this digest.
    ///
    /// # Errors
    ///
    /// The message of the compiler, or the limit that was exceeded.
    pub(crate) async fn compile(
        &self,
        engine: &Engine,
        digest: &str,
        component: &Arc<[u8]>,
        limits: &Limits,
    ) -> Result<Vec<u8>, String> {
        // Waiting for a permit does not count as compile time.
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.map_err(|error| error.to_string())?;
        if let Some(error) = self.cached_error(digest, limits) {
            return Err(error);
        }
        let start = Instant::now();
        let compiled = self.compile_now(engine, component, limits, permit).await;
        if let Err(error) = &compiled
            && start.elapsed() > NEGATIVE_CACHE_THRESHOLD
        {
            let (digest, limits, error) = (digest.to_owned(), limits.clone(), error.clone());
            let mut cache = self.negative_cache.lock();
            cache.truncate(MAX_NEGATIVE_CACHE_ENTRIES - 1);
            cache.push_front(FailedCompile { digest, limits, error, at: Instant::now() });
        }
        compiled
    }

    /// Returns the error of a recent compilation of the component with the same limits.
    fn cached_error(&self, digest: &str, limits: &Limits) -> Option<String> {
        let cache = self.negative_cache.lock();
        let mut recent = cache.iter().take_while(|entry| entry.at.elapsed() < NEGATIVE_CACHE_TTL);
        let entry = recent.find(|entry| entry.digest == digest && entry.limits == *limits)?;
        Some(entry.error.clone())
    }

    async fn compile_now(
        &self,
        engine: &Engine,
        component: &Arc<[u8]>,
        limits: &Limits,
        permit: OwnedSemaphorePermit,
    ) -> Result<Vec<u8>, String> {
        let compile = async {
            match &self.compiler {
                Compiler::Here => {
                    compile_in_thread(engine.clone(), Arc::clone(component), permit).await
                }
                Compiler::Program(program) => {
                    let compiled = compile_in_process(program, component, limits).await;
                    drop(permit);
                    compiled
                }
            }
        };
        match timeout(limits.compile_time, compile).await {
            Ok(Ok(compiled)) if compiled.len() > limits.compiled_size => Err(too_large(limits)),
            Ok(result) => result,
            Err(_) => Err(format!("compilation timed out: {}", limits.cite("compile-time"))),
        }
    }
}

fn too_large(limits: &Limits) -> String {
    format!("the compiled component is too large: {}", limits.cite("compiled-size"))
}

/// Compiles a component on a new thread. The permit is held until the thread ends.
async fn compile_in_thread(
    engine: Engine,
    component: Arc<[u8]>,
    permit: OwnedSemaphorePermit,
) -> Result<Vec<u8>, String> {
    let (done, wait) = oneshot::channel();
    let compile = move || {
        let _permit = permit;
        ThreadPriority::Background.apply();
        // The compiler runs in the thread pool that is current for its caller.
        let threads = rayon::ThreadPoolBuilder::new().num_threads(compile_threads());
        let threads = threads.start_handler(|_| ThreadPriority::Background.apply()).build();
        let compile = || engine.precompile_component(&component);
        let result = threads.map_or_else(|_| compile(), |threads| threads.install(compile));
        let _ = done.send(result.map_err(|error| error.root_cause().to_string()));
    };
    let thread = thread::Builder::new().name("compiler".into()).spawn(compile);
    thread.map_err(|error| format!("cannot start a thread for the compiler: {error}"))?;
    wait.await.unwrap_or_else(|_| Err("the compiler panicked".into()))
}

/// Returns the number of threads for one component.
fn compile_threads() -> usize {
    thread::available_parallelism().map_or(1, |number| number.get().min(MAX_COMPILE_THREADS))
}

/// Compiles a component in a child process.
async fn compile_in_process(
    program: &PathBuf,
    component: &[u8],
    limits: &Limits,
) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("compiler process failed: {error}");
    let mut compiler = Command::new(program)
        .arg("compile")
        .args([limits.compile_time.as_secs().to_string(), limits.compile_memory.to_string()])
        // Untrusted input: the process gets no environment variables of the operator.
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (stdin, stdout, stderr) =
        (compiler.stdin.take(), compiler.stdout.take(), compiler.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err("compiler process failed: no pipes".into());
    };
    let send = async {
        // A compiler that fails early does not read all of its input, and reports why on standard error.
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
    // The message fits into the buffer of the pipe, so reading it now cannot deadlock.
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
    // The process was killed by a limit, or aborted without memory.
    let (time, memory) = (limits.cite("compile-time"), limits.cite("compile-memory"));
    Err(format!("compilation exceeded a limit of time or memory: {time}, {memory}"))
}

/// Compiles the component on standard input to standard output, as [`Compiler::Program`] expects of its program.
///
/// Limits this process to `seconds` of CPU time on each processor and `memory` bytes of address space. Returns
/// the exit status: 0 on success, 3 with a message on standard error if the component cannot be compiled, 1 if
/// the output cannot be written.
pub fn serve(seconds: u64, memory: u64) -> u8 {
    use std::io::{Read, Write, stderr, stdin, stdout};
    ThreadPriority::Background.apply();
    exit_with_parent();
    limit_process(seconds, memory);
    // The default is one thread for each processor.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(compile_threads()).build_global();
    let mut component = Vec::new();
    let compiled = stdin()
        .lock()
        .read_to_end(&mut component)
        .map_err(|error| error.to_string())
        .and_then(|_| {
            let engine = engine().map_err(|error| error.root_cause().to_string())?;
            engine.precompile_component(&component).map_err(|error| error.root_cause().to_string())
        });
    match compiled {
        Ok(compiled) if stdout().write_all(&compiled).is_ok() => 0,
        Ok(_) => 1,
        Err(error) => {
            let _ = write!(stderr(), "{error}");
            EXIT_COMPILE_ERROR
        }
    }
}

/// Requests that the kernel kills this process when its parent exits.
fn exit_with_parent() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
}

/// Sets resource limits, which apply even if the parent cannot kill this process. If the machine runs out of
/// memory, the kernel kills this process before the host.
fn limit_process(seconds: u64, memory: u64) {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let limit = |max: u64| Rlimit { current: Some(max), maximum: Some(max) };
        // CPU time of all threads together. The parent's deadline in wall-clock time passes first.
        let processors = thread::available_parallelism().map_or(1, |number| number.get() as u64);
        let _ =
            setrlimit(Resource::Cpu, limit(seconds.saturating_mul(processors).saturating_add(1)));
        let _ = setrlimit(Resource::As, limit(memory));
        let _ = setrlimit(Resource::Core, limit(0));
        #[cfg(target_os = "linux")]
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    }
    #[cfg(not(unix))]
    let _ = (seconds, memory);
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;

    #[tokio::test]
    async fn slow_failure_is_cached() {
        let directory = tempfile::tempdir().unwrap();
        let (program, runs) = (directory.path().join("slow"), directory.path().join("runs"));
        let script = format!("#!/bin/sh\necho once >> '{}'\nexec sleep 60\n", runs.display());
        // Written by another process, so that no child of this process inherits it open for writing (ETXTBSY).
        let written = std::process::Command::new("/bin/sh")
            .args(["-c", "printf %s \"$1\" > \"$2\" && chmod +x \"$2\"", "sh", &script])
            .arg(&program)
            .status();
        assert!(written.unwrap().success());
        let queue = CompileQueue::new(Compiler::Program(program));
        let (engine, bytes) = (engine().unwrap(), Arc::from(&b"a component"[..]));
        let short = Limits {
            compile_time: NEGATIVE_CACHE_THRESHOLD + Duration::from_millis(1),
            ..Limits::default()
        };
        let longer = Limits {
            compile_time: NEGATIVE_CACHE_THRESHOLD + Duration::from_millis(2),
            ..short.clone()
        };
        for (digest, limits, times) in
            [("a", &short, 1), ("a", &short, 1), ("b", &short, 2), ("a", &longer, 3)]
        {
            let error = queue.compile(&engine, digest, &bytes, limits).await.unwrap_err();
            assert!(error.contains("limit `compile-time` is 1s"), "{error}");
            assert_eq!(fs::read_to_string(&runs).unwrap().lines().count(), times, "{digest}");
        }
    }
}
