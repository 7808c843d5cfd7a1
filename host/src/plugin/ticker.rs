//! Epochs: how guests that compute are interrupted, without a wake-up while none does.

use super::meter::CpuMeter;
use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread::{self, Thread},
    time::Duration,
};
use wasmtime::{Engine, EngineWeak};

/// The length of an epoch: how long a guest computes before others get their turn.
const EPOCH: Duration = Duration::from_millis(1);

/// Ticks while guests compute, and sleeps otherwise.
#[derive(Debug, Clone)]
pub(super) struct Ticker {
    awake: Arc<Awake>,
}

/// Wakes the thread; when the last one is dropped, the thread ends.
#[derive(Debug)]
struct Awake {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    /// Guests that are on a processor at this moment.
    running: AtomicUsize,
    asleep: AtomicBool,
    ended: AtomicBool,
}

impl Ticker {
    /// Starts the thread. It ends with the last clone of the ticker.
    pub(super) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let weak = engine.weak();
        let handle = thread::Builder::new().name("epochs".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.tick(&weak)
        })?;
        let thread = handle.thread().clone();
        Ok(Self { awake: Arc::new(Awake { shared, thread }) })
    }

    /// Runs a call to a guest, and measures the time that it is on a processor.
    pub(super) async fn run<F: Future>(&self, meter: &CpuMeter, call: F) -> F::Output {
        let mut call = pin!(call);
        meter.reset();
        std::future::poll_fn(|context| self.poll(meter, call.as_mut(), context)).await
    }

    fn poll<F: Future>(
        &self,
        meter: &CpuMeter,
        call: Pin<&mut F>,
        context: &mut Context<'_>,
    ) -> Poll<F::Output> {
        let Awake { shared, thread } = &*self.awake;
        shared.running.fetch_add(1, Ordering::SeqCst);
        if shared.asleep.swap(false, Ordering::SeqCst) {
            thread.unpark();
        }
        // Also when polling panics.
        struct Leave<'a>(&'a AtomicUsize, &'a CpuMeter);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
                self.1.pause();
            }
        }
        meter.resume();
        let _leave = Leave(&shared.running, meter);
        call.poll(context)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Shared {
    fn tick(&self, engine: &EngineWeak) {
        loop {
            thread::sleep(EPOCH);
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
            drop(engine);
            if self.running.load(Ordering::SeqCst) == 0 {
                self.asleep.store(true, Ordering::SeqCst);
                // Whoever came between looking and lying down has seen `asleep` as false.
                while self.running.load(Ordering::SeqCst) == 0
                    && self.asleep.load(Ordering::SeqCst)
                    && !self.ended.load(Ordering::SeqCst)
                {
                    thread::park();
                }
                self.asleep.store(false, Ordering::SeqCst);
            }
        }
    }
}
