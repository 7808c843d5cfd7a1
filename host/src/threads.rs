//! Threads for work that is not to hold up the program's own.

use std::{
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
    time::Duration,
};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

/// For how long a thread that has patience asks for the processor at a time.
///
/// On Linux, since 6.12, who is woken takes the processor at once from whoever asks for longer. From others
/// it may not for as long as they ask: that is 0.7 ms, 2.8 ms where there are eight processors or more. Who
/// computes and sleeps in turns shorter than that is never told to leave, however nice it is.
const PATIENT: Duration = Duration::from_millis(5);

/// A few threads, started when they are needed first, which end with this.
#[derive(Debug)]
pub(crate) struct Threads {
    name: &'static str,
    number: usize,
    on_start: fn(),
    runtime: OnceLock<Option<Runtime>>,
}

impl Threads {
    /// With a name, as the system shows it.
    pub(crate) const fn new(name: &'static str, number: usize) -> Self {
        Self { name, number, on_start: || {}, runtime: OnceLock::new() }
    }

    /// What runs when each thread starts: how it behaves towards others, [`have_patience`] or [`give_way`].
    pub(crate) const fn on_start(mut self, on_start: fn()) -> Self {
        self.on_start = on_start;
        self
    }

    /// For starting tasks there; `None` where there are no threads to be had.
    pub(crate) fn handle(&self) -> Option<Handle> {
        let runtime = self.runtime.get_or_init(|| self.start());
        runtime.as_ref().map(|runtime| runtime.handle().clone())
    }

    /// Starts a task there; gives it back where there are no threads to be had.
    pub(crate) fn spawn<F>(&self, task: F) -> Result<JoinHandle<F::Output>, F>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        match self.handle() {
            Some(there) => Ok(there.spawn(task)),
            None => Err(task),
        }
    }

    fn start(&self) -> Option<Runtime> {
        // Where the system gives no thread, tokio panics.
        let started = catch_unwind(AssertUnwindSafe(|| self.build()));
        let why = match started {
            Ok(Ok(runtime)) => return Some(runtime),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the system gives no more".into(),
        };
        tracing::warn!("no threads for {}, so others may have to wait for them: {why}", self.name);
        None
    }

    fn build(&self) -> io::Result<Runtime> {
        Builder::new_multi_thread()
            .worker_threads(self.number)
            .thread_name(self.name)
            .on_thread_start(self.on_start)
            // Who only waits is not to wait for those who compute. Not at each turn: whoever is woken then
            // comes before those in the queue, and one that yields all the time would always be the one.
            .event_interval(2)
            .global_queue_interval(3)
            .enable_all()
            .build()
    }
}

/// It may be dropped where nobody may wait for threads to end.
impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(Some(runtime)) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Whoever is woken gets the processor before this thread, which has as much of it as anybody.
pub(crate) fn have_patience() {
    behave(0);
}

/// Whoever else wants the processor gets it before this thread, and more of it.
pub(crate) fn give_way() {
    behave(10);
}

/// This thread becomes so much nicer, and asks for the processor for longer than others. Where the system
/// knows no such thing, or does not let us, it stays as it is.
#[cfg(target_os = "linux")]
fn behave(nicer: i32) {
    // On Linux this is a thread's own.
    let Ok(nice) = rustix::process::nice(nicer) else { return };
    let mut attributes = attributes();
    attributes.sched_flags = KEEP_POLICY;
    attributes.sched_nice = nice;
    attributes.sched_runtime = u64::try_from(PATIENT.as_nanos()).unwrap_or(u64::MAX);
    #[allow(
        unsafe_code,
        reason = "neither `rustix` nor `nix` has this call; it reads a local structure"
    )]
    let _ = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

#[cfg(not(target_os = "linux"))]
fn behave(_nicer: i32) {}

/// `SCHED_FLAG_KEEP_POLICY` of `sched_setattr(2)`.
#[cfg(target_os = "linux")]
const KEEP_POLICY: u64 = 8;

/// Nothing but their size.
#[cfg(target_os = "linux")]
fn attributes() -> libc::sched_attr {
    libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0),
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Of a thread that has been started so.
    fn started(on_start: fn()) -> libc::sched_attr {
        let threads = Threads::new("test", 1).on_start(on_start);
        let (give, take) = std::sync::mpsc::channel();
        let task = async move {
            let mut found = attributes();
            let size = found.size;
            #[allow(unsafe_code, reason = "it writes to a local structure of this size")]
            unsafe {
                libc::syscall(libc::SYS_sched_getattr, 0, &raw mut found, size, 0);
            }
            let _ = give.send(found);
        };
        assert!(threads.spawn(task).is_ok());
        take.recv().expect("the task has run")
    }

    #[test]
    fn who_has_patience_asks_for_long_and_who_gives_way_is_nice_as_well() {
        let (anybody, patient, last) = (started(|| {}), started(have_patience), started(give_way));
        assert_eq!(patient.sched_nice, anybody.sched_nice);
        assert_eq!(last.sched_nice, (anybody.sched_nice + 10).min(19));
        // A kernel that knows no slices says that there are none.
        if anybody.sched_runtime > 0 {
            assert_eq!(u128::from(patient.sched_runtime), PATIENT.as_nanos());
            assert_eq!(u128::from(last.sched_runtime), PATIENT.as_nanos());
        }
    }
}
