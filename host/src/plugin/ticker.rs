//! Epochs: how guests that compute are interrupted, without a wake-up while none does.

use super::{alarm::Alarm, meter::CpuMeter};
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};
use wasmtime::{Engine, EngineWeak};

/// The length of an epoch: how long a guest computes before others get their turn.
pub(super) const EPOCH: Duration = Duration::from_millis(1);

/// Ticks while guests compute, and sleeps otherwise.
#[derive(Debug, Clone)]
pub(super) struct Ticker {
    awake: Arc<Awake>,
}

/// When the last one is dropped, the thread ends.
#[derive(Debug)]
struct Awake(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    alarm: Alarm,
    /// Guests that are on a processor at this moment.
    running: AtomicUsize,
    /// Whether the alarm is not set.
    asleep: AtomicBool,
    ended: AtomicBool,
}

impl Ticker {
    /// Starts the thread. It ends with the last clone of the ticker.
    pub(super) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            alarm: Alarm::new()?,
            running: AtomicUsize::new(0),
            asleep: AtomicBool::new(true),
            ended: AtomicBool::new(false),
        });
        let weak = engine.weak();
        thread::Builder::new().name("epochs".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.tick(&weak)
        })?;
        Ok(Self { awake: Arc::new(Awake(shared)) })
    }

    /// Polls a call to a guest, and measures the time that it is on a processor.
    pub(super) fn poll<F: Future>(
        &self,
        meter: &CpuMeter,
        call: Pin<&mut F>,
        context: &mut Context<'_>,
    ) -> Poll<F::Output> {
        let shared = &self.awake.0;
        shared.running.fetch_add(1, Ordering::SeqCst);
        shared.wake();
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
        self.0.ended.store(true, Ordering::SeqCst);
        self.0.alarm.set(Duration::ZERO);
    }
}

impl Shared {
    /// Ticks in an epoch from now, if nobody has seen to that.
    fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.alarm.set(EPOCH);
        }
    }

    fn tick(&self, engine: &EngineWeak) {
        loop {
            self.alarm.wait();
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
            drop(engine);
            self.asleep.store(true, Ordering::SeqCst);
            // Also for whoever came before that, and saw that it was awake.
            if self.running.load(Ordering::SeqCst) > 0 {
                self.wake();
            }
        }
    }
}
