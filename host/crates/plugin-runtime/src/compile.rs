//! Compiling components, which are strangers' work too: for a limited time, and out of others' way.

use crate::Limits;
use reloader_util::{sanitize::sanitize, thread_pool::ThreadPriority};
use std::{
    collections::VecDeque,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
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

/// So many components are compiled at once …
const AT_ONCE: usize = 2;
/// … each on so many threads at most: on each it takes memory.
const THREADS: usize = 4;
/// What has taken longer than this, and could not be compiled, …
const LONG: Duration = Duration::from_secs(1);
/// … is not tried again for so long: it takes no less then, unless the machine was busy.
const REFUSED_FOR: Duration = Duration::from_secs(600);
/// Of so many components, the last ones.
const REFUSED_MAX: usize = 32;

/// Where components are compiled.
#[derive(Debug, Clone, Default)]
pub enum Compiler {
    /// In this process, on threads of their own. What takes too long is given up, but goes on until
    /// it is done.
    #[default]
    Here,
    /// By a process of its own, which is stopped when it takes too long or too much memory: this program,
    /// called with the argument `compile`. `host` is such a program; see [`serve`].
    Program(PathBuf),
}

/// How the compiler is set, and with it all that it has compiled.
pub(crate) fn engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        // Seven mappings an instance would meet `vm.max_map_count` at 9,000 instances.
        .memory_init_cow(false)
        .max_wasm_stack(512 << 10)
        .async_stack_size(1 << 20);
    Engine::new(&config)
}

/// A compiler at work, for one program.
#[derive(Debug)]
pub(crate) struct Workshop {
    compiler: Compiler,
    places: Arc<Semaphore>,
    refused: Mutex<VecDeque<Refused>>,
}

/// A component that could not be compiled.
#[derive(Debug)]
struct Refused {
    digest: String,
    limits: Limits,
    why: String,
    at: Instant,
}

impl Workshop {
    pub(crate) fn new(compiler: Compiler) -> Self {
        Self { compiler, places: Arc::new(Semaphore::new(AT_ONCE)), refused: Mutex::default() }
    }

    /// The compiled component, which has this digest, or why there is none, in words.
    pub(crate) async fn compile(
        &self,
        engine: &Engine,
        digest: &str,
        component: &Arc<[u8]>,
        limits: &Limits,
    ) -> Result<Vec<u8>, String> {
        // Waiting for a place is not compiling. Nobody holds one for longer than that takes.
        let places = Arc::clone(&self.places);
        let place = places.acquire_owned().await.map_err(|error| error.to_string())?;
        if let Some(why) = self.refused(digest, limits) {
            return Err(why);
        }
        let start = Instant::now();
        let compiled = self.compile_now(engine, component, limits, place).await;
        if let Err(why) = &compiled
            && start.elapsed() > LONG
        {
            let (digest, limits, why) = (digest.to_owned(), limits.clone(), why.clone());
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            refused.truncate(REFUSED_MAX - 1);
            refused.push_front(Refused { digest, limits, why, at: Instant::now() });
        }
        compiled
    }

    /// Why it could not be compiled a while ago, if that was so.
    fn refused(&self, digest: &str, limits: &Limits) -> Option<String> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lately = refused.iter().take_while(|refused| refused.at.elapsed() < REFUSED_FOR);
        let it = lately.find(|it| it.digest == digest && it.limits == *limits)?;
        Some(it.why.clone())
    }

    async fn compile_now(
        &self,
        engine: &Engine,
        component: &Arc<[u8]>,
        limits: &Limits,
        place: OwnedSemaphorePermit,
    ) -> Result<Vec<u8>, String> {
        let compile = async {
            match &self.compiler {
                Compiler::Here => here(engine.clone(), Arc::clone(component), place).await,
                Compiler::Program(program) => {
                    let compiled = elsewhere(program, component, limits).await;
                    drop(place);
                    compiled
                }
            }
        };
        match timeout(limits.compile_time, compile).await {
            Ok(Ok(compiled)) if compiled.len() > limits.compiled_size => Err(too_large(limits)),
            Ok(result) => result,
            Err(_) => Err(format!("compiling it takes too long: {}", limits.cite("compile-time"))),
        }
    }
}

fn too_large(limits: &Limits) -> String {
    format!("what it is compiled to is too large: {}", limits.cite("compiled-size"))
}

async fn here(
    engine: Engine,
    component: Arc<[u8]>,
    place: OwnedSemaphorePermit,
) -> Result<Vec<u8>, String> {
    let (done, wait) = oneshot::channel();
    let compile = move || {
        let _place = place;
        ThreadPriority::Background.apply();
        // The compiler uses the threads of whoever calls it.
        let threads = rayon::ThreadPoolBuilder::new().num_threads(threads());
        let threads = threads.start_handler(|_| ThreadPriority::Background.apply()).build();
        let compile = || engine.precompile_component(&component);
        let result = threads.map_or_else(|_| compile(), |threads| threads.install(compile));
        let _ = done.send(result.map_err(|error| error.root_cause().to_string()));
    };
    let thread = thread::Builder::new().name("compiler".into()).spawn(compile);
    thread.map_err(|error| format!("it cannot be compiled: there is no thread left: {error}"))?;
    wait.await.unwrap_or_else(|_| Err("the compiler has panicked".into()))
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, |number| number.get().min(THREADS))
}

async fn elsewhere(
    program: &PathBuf,
    component: &[u8],
    limits: &Limits,
) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("it cannot be compiled: {error}");
    let mut compiler = Command::new(program)
        .arg("compile")
        .args([limits.compile_time.as_secs().to_string(), limits.compile_memory.to_string()])
        // It works for strangers: nothing of the operator's is there.
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
        return Err("it cannot be compiled: the compiler has no pipes".into());
    };
    let give = async {
        // One that fails early does not read all of it, and says why.
        let _ = stdin.write_all(component).await;
        drop(stdin);
    };
    let (mut compiled, mut complaint) = (Vec::new(), Vec::new());
    let most = (limits.compiled_size as u64).saturating_add(1);
    let (mut stdout, mut stderr) = (stdout.take(most), stderr.take(COMPLAINT_MAX));
    let ((), taken) = tokio::join!(give, stdout.read_to_end(&mut compiled));
    if taken.map_err(failed)? as u64 == most {
        return Err(too_large(limits));
    }
    // What is said fits into the pipe until then.
    stderr.read_to_end(&mut complaint).await.map_err(failed)?;
    let status = compiler.wait().await.map_err(failed)?;
    if status.success() {
        return Ok(compiled);
    }
    if status.code() == Some(REFUSED.into()) {
        let why = sanitize(String::from_utf8_lossy(&complaint).trim_end());
        if !why.contains("out of memory") {
            return Err(why);
        }
    }
    // It has been killed, or has killed itself when there was no memory left.
    let (time, memory) = (limits.cite("compile-time"), limits.cite("compile-memory"));
    Err(format!("compiling it took too long or too much memory: {time}, {memory}"))
}

/// What the compiler says of a component it cannot compile; in bytes.
const COMPLAINT_MAX: u64 = 4096;
/// The status of a compiler that has said why it cannot compile a component.
const REFUSED: u8 = 3;

/// Compiles the component on standard input to standard output, within so many seconds and bytes: what
/// [`Compiler::Program`] is expected to do. Gives the exit status.
pub fn serve(seconds: u64, memory: u64) -> u8 {
    use std::io::{Read, Write, stderr, stdin, stdout};
    ThreadPriority::Background.apply();
    end_with_the_parent();
    limit_this_process(seconds, memory);
    // Without them it uses one for each processor.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads()).build_global();
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
        Err(why) => {
            let _ = write!(stderr(), "{why}");
            REFUSED
        }
    }
}

/// Nobody is left who would take what is compiled.
fn end_with_the_parent() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
}

/// Also when nobody is left who would stop it. Where the machine has too little memory, this process ends
/// and not the host.
fn limit_this_process(seconds: u64, memory: u64) {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let limit = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
        // Of all processors together: the time on the wall is up before that.
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
    async fn what_took_long_to_no_avail_is_not_tried_again_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let (program, tried) = (directory.path().join("slow"), directory.path().join("tried"));
        let script = format!("#!/bin/sh\necho once >> '{}'\nexec sleep 60\n", tried.display());
        // Written by another process: nothing that is started here meanwhile holds it open.
        let written = std::process::Command::new("/bin/sh")
            .args(["-c", "printf %s \"$1\" > \"$2\" && chmod +x \"$2\"", "sh", &script])
            .arg(&program)
            .status();
        assert!(written.unwrap().success());
        let workshop = Workshop::new(Compiler::Program(program));
        let (engine, bytes) = (engine().unwrap(), Arc::from(&b"a component"[..]));
        let short = Limits { compile_time: LONG + Duration::from_millis(1), ..Limits::default() };
        let longer = Limits { compile_time: LONG + Duration::from_millis(2), ..short.clone() };
        for (digest, limits, times) in
            [("a", &short, 1), ("a", &short, 1), ("b", &short, 2), ("a", &longer, 3)]
        {
            let why = workshop.compile(&engine, digest, &bytes, limits).await.unwrap_err();
            assert!(why.contains("limit `compile-time` is 1s"), "{why}");
            assert_eq!(fs::read_to_string(&tried).unwrap().lines().count(), times, "{digest}");
        }
    }
}
