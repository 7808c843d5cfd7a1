//! Compiling components, which are strangers' work too: for a limited time, and out of others' way.

use super::Limits;
use crate::{text::tidy, threads::give_way};
use std::{path::PathBuf, process::Stdio, sync::Arc, thread};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};
use wasmtime::{Config, Engine, OptLevel};

/// So many components are compiled at once; compiling one uses all processors.
const AT_ONCE: usize = 2;

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
pub(super) fn engine() -> wasmtime::Result<Engine> {
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
pub(super) struct Workshop {
    compiler: Compiler,
    places: Arc<Semaphore>,
}

impl Workshop {
    pub(super) fn new(compiler: Compiler) -> Self {
        Self { compiler, places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The compiled component, or why there is none, in words.
    pub(super) async fn compile(
        &self,
        engine: &Engine,
        component: &Arc<[u8]>,
        limits: &Limits,
    ) -> Result<Vec<u8>, String> {
        // Waiting for a place is not compiling. Nobody holds one for longer than that takes.
        let places = Arc::clone(&self.places);
        let place = places.acquire_owned().await.map_err(|error| error.to_string())?;
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
        give_way();
        // The compiler uses the threads of whoever calls it.
        let threads = rayon::ThreadPoolBuilder::new().start_handler(|_| give_way()).build();
        let compile = || engine.precompile_component(&component);
        let result = threads.map_or_else(|_| compile(), |threads| threads.install(compile));
        let _ = done.send(result.map_err(|error| error.root_cause().to_string()));
    };
    let thread = thread::Builder::new().name("compiler".into()).spawn(compile);
    thread.map_err(|error| format!("it cannot be compiled: there is no thread left: {error}"))?;
    wait.await.unwrap_or_else(|_| Err("the compiler has panicked".into()))
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
        let why = tidy(String::from_utf8_lossy(&complaint).trim_end());
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
    give_way();
    end_with_the_parent();
    limit_this_process(seconds, memory);
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

/// Also when nobody is left who would stop it.
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
    }
    #[cfg(not(unix))]
    let _ = (seconds, memory);
}
