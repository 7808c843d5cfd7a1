//! One instance of a plugin: a store of its own, and calls that end.

use super::{
    bindings::exports::reloader::plugin::{
        reload::{Guest as Reload, GuestIndices as ReloadIndices},
        watch::{Guest as Watch, GuestIndices as WatchIndices},
    },
    meter::CpuMeter,
    ticker::{EPOCH, Ticker},
    view::{Surroundings, View},
};
use crate::model::{Cursor, Event, Failure, FailureKind, Outcome};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use wasmtime::{Engine, Store, Trap, UpdateDeadline, component::InstancePre};

/// A linked component, ready to be instantiated any number of times.
#[derive(Clone)]
pub(super) struct Linked {
    pub(super) engine: Engine,
    pub(super) ticker: Ticker,
    pub(super) instance: InstancePre<View>,
    pub(super) reload: Arc<ReloadIndices>,
    pub(super) watch: Option<Arc<WatchIndices>>,
}

/// An instance that has been opened with its settings. After a call that trapped or was not in time
/// it must be dropped: [`Instance::call`] takes it, and gives it back only when it is whole.
pub(super) struct Instance {
    store: Store<View>,
    reload: Reload,
    watch: Option<Watch>,
    ticker: Ticker,
    meter: CpuMeter,
    surroundings: Arc<Surroundings>,
}

impl Instance {
    /// Instantiates and opens.
    pub(super) async fn open(
        linked: &Linked,
        surroundings: &Arc<Surroundings>,
        settings: &str,
    ) -> Result<Self, Failure> {
        let mut store = Store::new(&linked.engine, View::new(Arc::clone(surroundings)));
        store.limiter(|view| &mut view.memory);
        store.set_hostcall_fuel(surroundings.limits.value + (1 << 20));
        let (meter, call_cpu) = (CpuMeter::default(), surroundings.limits.call_cpu);
        store.set_epoch_deadline(1);
        let on_processor = meter.clone();
        store.epoch_deadline_callback(move |_| {
            Ok(if on_processor.used() > call_cpu {
                UpdateDeadline::Interrupt
            } else if on_processor.slice() < EPOCH {
                // The epoch has ended while it waited: it has hardly begun to compute.
                UpdateDeadline::Continue(1)
            } else {
                UpdateDeadline::Yield(1)
            })
        });
        let limit = surroundings.limits.call_timeout;
        let start = async {
            let instance = linked.instance.instantiate_async(&mut store).await?;
            let reload = linked.reload.load(&mut store, &instance)?;
            let watch = linked.watch.as_ref().map(|watch| watch.load(&mut store, &instance));
            let watch = watch.transpose()?;
            let answer = reload.call_open(&mut store, settings).await?;
            wasmtime::Result::Ok((reload, watch, answer))
        };
        match timeout(limit, linked.ticker.run(&meter, start)).await {
            Ok(Ok((reload, watch, Ok(())))) => Ok(Self {
                store,
                reload,
                watch,
                ticker: linked.ticker.clone(),
                meter,
                surroundings: Arc::clone(surroundings),
            }),
            Ok(Ok((_, _, Err(failure)))) => Err(failure.into()),
            Ok(Err(trap)) => Err(explain(store.data(), "open", &trap)),
            Err(_) => Err(too_late("open", limit)),
        }
    }

    /// The export `reload`.
    pub(super) async fn reload(mut self, known: Option<Cursor>) -> Called<Outcome> {
        let known = known.as_ref().map(Cursor::as_str);
        let limit = self.surroundings.limits.call_timeout;
        let call = self.reload.call_reload(&mut self.store, known);
        let result = timeout(limit, self.ticker.run(&self.meter, call)).await;
        match result {
            Ok(Ok(answer)) => Called::whole(self, answer),
            Ok(Err(trap)) => Called::dead(explain(self.store.data(), "reload", &trap)),
            Err(_) => Called::dead(too_late("reload", limit)),
        }
    }

    /// The export `arm`.
    pub(super) async fn arm(mut self, known: Option<Cursor>) -> Called<()> {
        let Some(watch) = &self.watch else { return Called::dead(cannot_watch()) };
        let known = known.as_ref().map(Cursor::as_str);
        let limit = self.surroundings.limits.call_timeout;
        let call = watch.call_arm(&mut self.store, known);
        let result = timeout(limit, self.ticker.run(&self.meter, call)).await;
        match result {
            Ok(Ok(answer)) => Called::whole(self, answer),
            Ok(Err(trap)) => Called::dead(explain(self.store.data(), "arm", &trap)),
            Err(_) => Called::dead(too_late("arm", limit)),
        }
    }

    /// The export `next`. It has no time limit here: the engine knows how long a watch may be silent.
    pub(super) async fn next(mut self) -> Called<Event> {
        let Some(watch) = &self.watch else { return Called::dead(cannot_watch()) };
        let call = watch.call_next(&mut self.store);
        match self.ticker.run(&self.meter, call).await {
            Ok(answer) => Called::whole(self, answer),
            Err(trap) => Called::dead(explain(self.store.data(), "next", &trap)),
        }
    }
}

/// What a call came to, and the instance if it can be used again.
pub(super) struct Called<T> {
    pub(super) instance: Option<Instance>,
    pub(super) result: Result<T, Failure>,
}

impl<T> Called<T> {
    fn whole<G: Into<T>, F: Into<Failure>>(instance: Instance, answer: Result<G, F>) -> Self {
        let result = answer.map(Into::into).map_err(Into::into);
        Self { instance: Some(instance), result }
    }

    fn dead(failure: Failure) -> Self {
        Self { instance: None, result: Err(failure) }
    }
}

fn cannot_watch() -> Failure {
    Failure::new(FailureKind::Permanent, "the plugin cannot watch; its source is polled")
}

fn too_late(call: &str, limit: Duration) -> Failure {
    Failure::transient(format!("the plugin did not answer `{call}` within {limit:?}"))
}

/// A trap in words: what the guest said last, or which limit it went beyond.
fn explain(view: &View, call: &str, trap: &wasmtime::Error) -> Failure {
    let limits = &view.surroundings().limits;
    let why = match (&view.last_words, trap.downcast_ref::<Trap>()) {
        (Some(words), _) => format!("panicked: {words}"),
        (None, Some(Trap::Interrupt)) => {
            format!("computed for more than {:?} in one call", limits.call_cpu)
        }
        (None, Some(Trap::StackOverflow)) => "used up its stack".into(),
        (None, Some(other)) => format!("trapped: {other}"),
        (None, None) => format!("failed: {}", trap.root_cause()),
    };
    Failure::transient(format!("the plugin {why} (in `{call}`)"))
}
