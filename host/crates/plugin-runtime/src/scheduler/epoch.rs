//! Epochs: how guests that compute are interrupted, without a wake-up while none does.

use crate::{meter::CpuMeter, timer::Alarm};
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

/// The length of an epoch: how long a guest computes before others get their turn.
pub(crate) const EPOCH: Duration = Duration::from_millis(1);
/// How long guests compute where others come first before those get their turn.
pub(crate) const MOMENT: Duration = Duration::from_micros(250);

/// Ticks while guests compute, and sleeps otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Ticker {
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
    /// Those among them that let others come first.
    last: AtomicUsize,
    /// After how long the alarm goes off, in microseconds; [`ASLEEP`] while it is not set.
    set_for: AtomicU64,
    ended: AtomicBool,
}

/// Longer than any time for which the alarm is set.
const ASLEEP: u64 = u64::MAX;

impl Ticker {
    /// Starts the thread. It ends with the last clone of the ticker.
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            alarm: Alarm::new()?,
            running: AtomicUsize::new(0),
            last: AtomicUsize::new(0),
            set_for: AtomicU64::new(ASLEEP),
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
    pub(crate) fn poll<F: Future>(
        &self,
        meter: &CpuMeter,
        call: Pin<&mut F>,
        context: &mut Context<'_>,
    ) -> Poll<F::Output> {
        let shared = &self.awake.0;
        let last = meter.is_last();
        shared.running.fetch_add(1, Ordering::SeqCst);
        shared.last.fetch_add(last.into(), Ordering::SeqCst);
        shared.wake();
        // Also when polling panics.
        struct Leave<'a>(&'a Shared, &'a CpuMeter, usize);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                let Self(shared, meter, last) = self;
                shared.running.fetch_sub(1, Ordering::SeqCst);
                shared.last.fetch_sub(*last, Ordering::SeqCst);
                meter.pause();
            }
        }
        meter.resume();
        let _leave = Leave(shared, meter, last.into());
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
    /// Ticks when whoever is on a processor is to be interrupted, if nobody has seen to that.
    fn wake(&self) {
        let after = match self.last.load(Ordering::SeqCst) {
            0 => EPOCH,
            _ => MOMENT,
        };
        let microseconds = u64::try_from(after.as_micros()).unwrap_or(ASLEEP);
        if self.set_for.fetch_min(microseconds, Ordering::SeqCst) > microseconds {
            self.alarm.set(after);
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
            self.set_for.store(ASLEEP, Ordering::SeqCst);
            // Also for whoever came before that, and saw that it was set.
            if self.running.load(Ordering::SeqCst) > 0 {
                self.wake();
            }
        }
    }
}
