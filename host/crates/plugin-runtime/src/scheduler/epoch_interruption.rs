//! Epoch interruption: interrupts running guests each [`EPOCH`], without wake-ups while no guest runs.

use super::oneshot_timer::Timer;
use crate::cpu_timer::CpuTimer;
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};
use wasmtime::{Engine, EngineWeak};

/// Length of an epoch: time slice of a guest.
pub(crate) const EPOCH: Duration = Duration::from_millis(1);
/// Length of an epoch while a guest runs in the background pool: time between two yields to other threads.
pub(crate) const BACKGROUND_EPOCH: Duration = Duration::from_micros(250);

/// Ticker that increments the engine's epoch while guests run, and sleeps otherwise.
#[derive(Debug, Clone)]
pub(crate) struct EpochTicker {
    thread: Arc<TickerThread>,
}

/// Owner of the ticker's thread. Dropping the owner ends the thread.
#[derive(Debug)]
struct TickerThread(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    timer: Timer,
    /// Number of guests that are running.
    running: AtomicUsize,
    /// Number of guests that are running in the background pool.
    in_background: AtomicUsize,
    /// Delay of the timer in microseconds; [`NOT_ARMED`] while the timer is not armed.
    armed_for: AtomicU64,
    ended: AtomicBool,
}

/// Value of [`Shared::armed_for`] while the timer is not armed: greater than any delay.
const NOT_ARMED: u64 = u64::MAX;

impl EpochTicker {
    /// Starts the ticker's thread. It ends with the last clone of the ticker.
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            timer: Timer::new()?,
            running: AtomicUsize::new(0),
            in_background: AtomicUsize::new(0),
            armed_for: AtomicU64::new(NOT_ARMED),
            ended: AtomicBool::new(false),
        });
        let weak = engine.weak();
        thread::Builder::new().name("reloader-epochs".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.tick(&weak)
        })?;
        Ok(Self { thread: Arc::new(TickerThread(shared)) })
    }

    /// Polls a guest call, with epochs and the CPU timer running.
    pub(crate) fn poll<F: Future>(
        &self,
        cpu_timer: &CpuTimer,
        call: Pin<&mut F>,
        context: &mut Context<'_>,
    ) -> Poll<F::Output> {
        let shared = &self.thread.0;
        let in_background = cpu_timer.is_in_background();
        shared.running.fetch_add(1, Ordering::SeqCst);
        shared.in_background.fetch_add(in_background.into(), Ordering::SeqCst);
        shared.arm_timer();
        /// Counts the guest as stopped and pauses the CPU timer, also when polling panics.
        struct PollGuard<'a>(&'a Shared, &'a CpuTimer, usize);
        impl Drop for PollGuard<'_> {
            fn drop(&mut self) {
                let Self(shared, cpu_timer, in_background) = self;
                shared.running.fetch_sub(1, Ordering::SeqCst);
                shared.in_background.fetch_sub(*in_background, Ordering::SeqCst);
                cpu_timer.pause();
            }
        }
        cpu_timer.resume();
        let _guard = PollGuard(shared, cpu_timer, in_background.into());
        call.poll(context)
    }
}

impl Drop for TickerThread {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
        self.0.timer.set(Duration::ZERO);
    }
}

impl Shared {
    /// Arms the timer for the end of the epoch, unless it is armed for that time or earlier.
    fn arm_timer(&self) {
        let after = match self.in_background.load(Ordering::SeqCst) {
            0 => EPOCH,
            _ => BACKGROUND_EPOCH,
        };
        let microseconds = u64::try_from(after.as_micros()).unwrap_or(NOT_ARMED);
        if self.armed_for.fetch_min(microseconds, Ordering::SeqCst) > microseconds {
            self.timer.set(after);
        }
    }

    fn tick(&self, engine: &EngineWeak) {
        loop {
            self.timer.wait();
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
            drop(engine);
            self.armed_for.store(NOT_ARMED, Ordering::SeqCst);
            // Running guests need a further tick. A guest that started before `armed_for` was reset saw the timer as
            // armed, and has not armed it.
            if self.running.load(Ordering::SeqCst) > 0 {
                self.arm_timer();
            }
        }
    }
}
