//! Queue of compilations: bounds their concurrency and time, and caches slow failures (negative cache).

use crate::{
    compiler::{CompileError, Compiler, compile_in_process, compile_in_thread},
    limits::Limits,
};
use reloader_util::sync::Mutex;
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use wasmtime::Engine;

/// Maximum number of components that are compiled concurrently.
const MAX_CONCURRENT_COMPILES: usize = 2;
/// Duration of a failed compilation above which its error is cached.
const NEGATIVE_CACHE_THRESHOLD: Duration = Duration::from_secs(1);
/// Time for which a failed compilation is not repeated.
const NEGATIVE_CACHE_TTL: Duration = Duration::from_secs(600);
/// Maximum number of failed compilations in the negative cache.
const MAX_NEGATIVE_CACHE_ENTRIES: usize = 32;

/// Queue of compilations: bounds their concurrency, and caches slow failures.
#[derive(Debug)]
pub(crate) struct CompileQueue {
    compiler: Compiler,
    permits: Arc<Semaphore>,
    negative_cache: Mutex<VecDeque<FailedCompile>>,
}

/// Failed compilation in the negative cache, which is not repeated for [`NEGATIVE_CACHE_TTL`].
#[derive(Debug)]
struct FailedCompile {
    digest: String,
    limits: Limits,
    error: CompileError,
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
    ) -> Result<Vec<u8>, CompileError> {
        // Waiting for a permit does not count as compile time.
        let permits = Arc::clone(&self.permits);
        let permit = permits
            .acquire_owned()
            .await
            .map_err(|error| CompileError::NoResources(error.to_string()))?;
        if let Some(error) = self.cached_error(digest, limits) {
            return Err(error);
        }
        let start = Instant::now();
        let compiled = self.compile_now(engine, component, limits, permit).await;
        if let Err(error @ CompileError::Component(_)) = &compiled
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
    fn cached_error(&self, digest: &str, limits: &Limits) -> Option<CompileError> {
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
    ) -> Result<Vec<u8>, CompileError> {
        let compile = async {
            match &self.compiler {
                Compiler::InProcess => {
                    compile_in_thread(engine.clone(), Arc::clone(component), permit).await
                }
                Compiler::ChildProcess(program) => {
                    let compiled = compile_in_process(program, component, limits).await;
                    drop(permit);
                    compiled
                }
            }
        };
        match timeout(limits.compile_time, compile).await {
            Ok(Ok(compiled)) if compiled.len() > limits.compiled_size => {
                Err(CompileError::too_large(limits))
            }
            Ok(result) => result,
            Err(_) => {
                let limit = limits.cite("compile-time");
                Err(CompileError::Component(format!("compilation timed out: {limit}")))
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::wasmtime_engine::engine;
    use std::fs;

    /// The error of a timed-out compilation is cached for the same component with the same limits only.
    #[tokio::test]
    async fn slow_failure_is_cached() {
        let directory = tempfile::tempdir().unwrap();
        let (program, runs) = (directory.path().join("slow"), directory.path().join("runs"));
        let script = format!("#!/bin/sh\necho once >> '{}'\nexec sleep 60\n", runs.display());
        // Another process writes the script, so that no child of this process inherits the file open for writing
        // (ETXTBSY).
        let written = std::process::Command::new("/bin/sh")
            .args(["-c", "printf %s \"$1\" > \"$2\" && chmod +x \"$2\"", "sh", &script])
            .arg(&program)
            .status();
        assert!(written.unwrap().success());
        let queue = CompileQueue::new(Compiler::ChildProcess(program));
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
            assert!(
                matches!(&error, CompileError::Component(reason) if reason.contains("limit `compile-time` is 1s")),
                "{error:?}"
            );
            assert_eq!(fs::read_to_string(&runs).unwrap().lines().count(), times, "{digest}");
        }
    }
}
