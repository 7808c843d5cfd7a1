//! Compiler process: compiles the component on its standard input, with limits on its own CPU time and memory.

use crate::wasmtime_engine::engine;
use reloader_util::thread_priority_pool::ThreadPriority;
use std::thread;

/// Maximum number of threads that compile one component. Each thread takes memory.
const MAX_COMPILE_THREADS: usize = 4;
/// Exit status of a compiler process that reports an error of the component.
pub(crate) const EXIT_COMPILE_ERROR: u8 = 3;
/// Exit status of a compiler process that cannot start its threads.
pub(crate) const EXIT_NO_THREADS: u8 = 4;

/// Compiles the component on standard input to standard output, as
/// [`Compiler::ChildProcess`](crate::Compiler::ChildProcess) expects of its program.
///
/// Limits this process to `seconds` of CPU time on each processor and `memory` bytes of address space. Returns
/// the exit status: 0 on success, 3 with a message on standard error if the component cannot be compiled, 4 if no
/// thread can be started, 1 if the output cannot be written.
pub fn run_compiler_process(seconds: u64, memory: u64) -> u8 {
    use std::io::{Read, Write, stderr, stdin, stdout};
    ThreadPriority::Background.apply();
    // Created before `limit_process`, so that the machine code suits the address space limit of the host, which
    // executes the code.
    let engine = engine().map_err(|error| error.root_cause().to_string());
    // Limits the number of threads. By default, rayon starts one for each processor. They start before `limit_process`, so
    // that an error means the limit of processes.
    if rayon::ThreadPoolBuilder::new().num_threads(compile_threads()).build_global().is_err() {
        return EXIT_NO_THREADS;
    }
    limit_process(seconds, memory);
    let mut component = Vec::new();
    let compiled = stdin()
        .lock()
        .read_to_end(&mut component)
        .map_err(|error| error.to_string())
        .and_then(|_| {
            engine?.precompile_component(&component).map_err(|error| error.root_cause().to_string())
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

/// Sets resource limits, which apply even if the parent cannot kill this process. If the system runs out of memory, the
/// kernel kills this process before the host.
fn limit_process(seconds: u64, memory: u64) {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let limit = |max: u64| Rlimit { current: Some(max), maximum: Some(max) };
        // `RLIMIT_CPU` counts the CPU time of all threads together, so the limit is multiplied by the number of
        // processors. The parent's deadline, in wall-clock time, passes before this limit.
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

/// Returns the number of threads that compile one component.
pub(crate) fn compile_threads() -> usize {
    thread::available_parallelism().map_or(1, |number| number.get().min(MAX_COMPILE_THREADS))
}
