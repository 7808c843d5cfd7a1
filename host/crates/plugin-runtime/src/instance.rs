//! One instance of a plugin: a store of its own, and calls that end.

use crate::{
    bindings::{
        reloader::plugin::types as wit, validator::exports::reloader::plugin::validate::Verdict,
    },
    exports::{Exports, Indices},
    imports::{Objections, View},
    meter::CpuMeter,
    scheduler::{Lanes, epoch::EPOCH, let_others_in},
    source_context::{Configured, Surroundings},
};
use reloader_engine::types::{Cursor, Event, Failure, FailureKind, Outcome, Snapshot};
use reloader_util::sanitize::prefix;
use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::Semaphore, time::timeout};
use wasmtime::{
    Engine, Store, Trap, UpdateDeadline,
    component::{InstancePre, ResourceTableError},
};
use wasmtime_wasi::I32Exit;

/// A linked component, ready to be instantiated any number of times.
pub(crate) struct Linked {
    pub(crate) engine: Engine,
    pub(crate) lanes: Lanes,
    pub(crate) instance: InstancePre<View>,
    pub(crate) exports: Indices,
}

/// An instance that has been opened with its settings. After a call that trapped or was not in time
/// it must be dropped: [`Instance::reload`] and the others take it, and give it back only when it is
/// whole.
pub(crate) struct Instance {
    store: Own,
    exports: Exports,
    lanes: Lanes,
    meter: CpuMeter,
    surroundings: Arc<Surroundings>,
}

/// A store, which is dropped where guests run: to give back a guest's memory takes milliseconds.
struct Own {
    /// Until this is dropped.
    store: Option<Store<View>>,
    lanes: Lanes,
    /// Where it leaves.
    exit: Arc<Semaphore>,
}

impl Deref for Own {
    type Target = Store<View>;

    fn deref(&self) -> &Store<View> {
        self.store.as_ref().unwrap_or_else(|| unreachable!("it is there until this is dropped"))
    }
}

impl DerefMut for Own {
    fn deref_mut(&mut self) -> &mut Store<View> {
        self.store.as_mut().unwrap_or_else(|| unreachable!("it is there until this is dropped"))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(mut store) = self.store.take()
            && store.data_mut().memory.give_back() > SMALL
            && let Ok(leaving) = Arc::clone(&self.exit).try_acquire_owned()
        {
            self.lanes.drop_there((store, leaving));
        }
    }
}

/// What is left of an instance during a call.
struct Rest {
    lanes: Lanes,
    meter: CpuMeter,
    surroundings: Arc<Surroundings>,
    objections: Objections,
}

/// What was objected to and is not told by a failure is said, and what it computed is counted, however the
/// call ends.
impl Drop for Rest {
    fn drop(&mut self) {
        self.surroundings.counters.computed(self.meter.used());
        self.objections.say();
    }
}

/// A refusal goes the way of failures, so that what it says is made fit to be shown.
fn judged(answer: Result<Verdict, wit::Failure>) -> Result<(), Failure> {
    match answer? {
        Verdict::Accepted => Ok(()),
        Verdict::Refused(reason) => {
            let reason = if reason.trim().is_empty() { "it does not say why" } else { &reason };
            Err(Failure::new(FailureKind::Permanent, prefix(reason)))
        }
    }
}

/// So much memory is given back at once: it takes fractions of a millisecond.
const SMALL: usize = 4 << 20;

/// What is left of a call: the store, if it came back, and what the guest answered.
type Left<S, T> = (S, wasmtime::Result<T>);

impl Instance {
    /// Instantiates and opens.
    pub(crate) async fn open(
        linked: &Arc<Linked>,
        surroundings: &Arc<Surroundings>,
        configured: &Arc<Configured>,
    ) -> Result<Self, Failure> {
        let meter = CpuMeter::default();
        let (linked, configured) = (Arc::clone(linked), Arc::clone(configured));
        let store = new_store(&linked.engine, surroundings, &configured, &meter);
        let rest = Rest {
            lanes: linked.lanes.clone(),
            meter,
            surroundings: Arc::clone(surroundings),
            objections: store.data().objections().clone(),
        };
        let exit = Arc::clone(&surroundings.exit);
        let mut store = Own { store: Some(store), lanes: rest.lanes.clone(), exit };
        let (meter, its) = (rest.meter.clone(), Arc::clone(surroundings));
        let open = async move {
            // What it may take has been given back, but may be there still.
            drop(store.exit.acquire().await);
            let start = async {
                let instance = linked.instance.instantiate_async(&mut *store).await?;
                let exports = linked.exports.load(&mut store, &instance).map_err(OtherTypes)?;
                let answer = exports.open(&mut store, &configured.settings).await?;
                wasmtime::Result::Ok((exports, answer))
            };
            match start.await {
                Ok((exports, Ok(()))) => {
                    let lanes = linked.lanes.clone();
                    Ok(Self { store, exports, lanes, meter, surroundings: its })
                }
                Ok((_, Err(failure))) => Err(store.data_mut().complete(failure.into())),
                Err(trap) => Err(explain(store.data_mut(), "open", &trap)),
            }
        };
        let limit = surroundings.limits.call_timeout;
        match timeout(limit, rest.lanes.run(&rest.meter, &surroundings.pace, open)).await {
            Ok(opened) => opened,
            Err(_) => Err(too_late(&rest, "open")),
        }
    }

    /// The export `reload`.
    pub(crate) async fn reload(mut self, known: Option<Cursor>) -> Called<Outcome> {
        let Some(reload) = self.exports.reload.take() else {
            return Called::dead(does_not("read"));
        };
        let rest = self.rest();
        let limit = Some(self.surroundings.limits.call_timeout);
        let call = async move {
            let known = known.as_ref().map(Cursor::as_str);
            let answer = reload.call_reload(&mut *self.store, known).await;
            self.exports.reload = Some(reload);
            (self, answer)
        };
        end("reload", limit, rest, call).await
    }

    /// The export `arm`.
    pub(crate) async fn arm(mut self, known: Option<Cursor>) -> Called<()> {
        let Some(watch) = self.exports.watch.take() else { return Called::dead(cannot_watch()) };
        let rest = self.rest();
        let limit = Some(self.surroundings.limits.call_timeout);
        let call = async move {
            let known = known.as_ref().map(Cursor::as_str);
            let answer = watch.call_arm(&mut *self.store, known).await;
            self.exports.watch = Some(watch);
            (self, answer)
        };
        end("arm", limit, rest, call).await
    }

    /// The export `next`. It has no time limit here: the engine knows how long a watch may be silent.
    pub(crate) async fn next(mut self) -> Called<Event> {
        let Some(watch) = self.exports.watch.take() else { return Called::dead(cannot_watch()) };
        let rest = self.rest();
        let call = async move {
            let answer = watch.call_next(&mut *self.store).await;
            self.exports.watch = Some(watch);
            (self, answer)
        };
        end("next", None, rest, call).await
    }

    /// The export `validate`. The instance is of no more use then: each value has a fresh one.
    pub(crate) async fn validate(
        mut self,
        value: Snapshot,
        previous: Option<Snapshot>,
    ) -> Called<()> {
        let Some(validate) = self.exports.validate.take() else {
            return Called::dead(does_not("judge"));
        };
        let rest = self.rest();
        let limit = Some(self.surroundings.limits.call_timeout);
        let call = async move {
            let (value, previous) =
                (wit::Snapshot::from(&value), previous.as_ref().map(Into::into));
            let answer = validate.call_validate(&mut *self.store, &value, previous.as_ref()).await;
            (self, answer.map(judged))
        };
        end("validate", limit, rest, call).await
    }

    /// What is needed of it when it does not come back.
    fn rest(&self) -> Rest {
        Rest {
            lanes: self.lanes.clone(),
            meter: self.meter.clone(),
            surroundings: Arc::clone(&self.surroundings),
            objections: self.store.data().objections().clone(),
        }
    }
}

fn new_store(
    engine: &Engine,
    surroundings: &Arc<Surroundings>,
    configured: &Arc<Configured>,
    meter: &CpuMeter,
) -> Store<View> {
    let limits = &surroundings.limits;
    let mut store = Store::new(engine, View::new(Arc::clone(surroundings), Arc::clone(configured)));
    store.limiter(|view| &mut view.memory);
    store.set_hostcall_fuel(limits.call_data());
    store.set_epoch_deadline(1);
    let (on_processor, call_cpu) = (meter.clone(), limits.call_cpu);
    store.epoch_deadline_callback(move |_| {
        if on_processor.is_last() {
            let_others_in();
        }
        let slice = on_processor.slice();
        Ok(if on_processor.used() + slice > call_cpu {
            UpdateDeadline::Interrupt
        } else if slice < EPOCH {
            // The epoch has ended while it waited: it has hardly begun to compute.
            UpdateDeadline::Continue(1)
        } else {
            on_processor.gives_way();
            UpdateDeadline::Yield(1)
        })
    });
    store
}

/// Runs a call to its end, or to the end of its time. What it answered is read, and what it leaves
/// behind is cleared away, where it ran.
async fn end<G, F, T>(
    name: &'static str,
    limit: Option<Duration>,
    rest: Rest,
    call: impl Future<Output = Left<Instance, Result<G, F>>> + Send + 'static,
) -> Called<T>
where
    G: Into<T> + Send + 'static,
    F: Into<Failure> + Send + 'static,
    T: Send + 'static,
{
    let surroundings = &rest.surroundings;
    let call = async move {
        match call.await {
            (instance, Ok(answer)) => Called::whole(instance, answer),
            (mut instance, Err(trap)) => {
                Called::dead(explain(instance.store.data_mut(), name, &trap))
            }
        }
    };
    let call = rest.lanes.run(&rest.meter, &surroundings.pace, call);
    let called = match limit {
        Some(limit) => timeout(limit, call).await.ok(),
        None => Some(call.await),
    };
    called.unwrap_or_else(|| Called::dead(too_late(&rest, name)))
}

/// What a call came to, and the instance if it can be used again.
pub(crate) struct Called<T> {
    pub(crate) instance: Option<Instance>,
    pub(crate) result: Result<T, Failure>,
}

impl<T> Called<T> {
    fn whole<G: Into<T>, F: Into<Failure>>(mut instance: Instance, answer: Result<G, F>) -> Self {
        let view = instance.store.data_mut();
        view.memory.forget();
        view.last_words = None;
        let result = match answer {
            Ok(answer) => Ok(answer.into()),
            Err(failure) => Err(view.complete(failure.into())),
        };
        Self { instance: Some(instance), result }
    }

    fn dead(failure: Failure) -> Self {
        Self { instance: None, result: Err(failure) }
    }
}

/// What a plugin exports has the right name only.
#[derive(Debug, thiserror::Error)]
#[error("its exports are not of the types that the interface has: {0}")]
struct OtherTypes(wasmtime::Error);

fn cannot_watch() -> Failure {
    Failure::new(FailureKind::Permanent, "the plugin cannot watch; its source is polled")
}

fn does_not(what: &str) -> Failure {
    Failure::new(FailureKind::Config, format!("the plugin does not {what}: it is of another world"))
}

/// Whoever has computed for less than this part of what it may, and waited for its turn, is not to blame.
const BLAMELESS: u32 = 10;

fn too_late(rest: &Rest, call: &str) -> Failure {
    let limits = &rest.surroundings.limits;
    let limit = limits.cite("call-timeout");
    let much = limits.call_cpu.min(limits.call_timeout) / BLAMELESS;
    if !rest.meter.waits() && rest.meter.used() < much {
        let why = format!("`{call}` had too little of a processor to answer in time: {limit}");
        return Failure::transient(why);
    }
    Failure::new(
        FailureKind::Crashed,
        format!("the plugin did not answer `{call}` in time: {limit}"),
    )
}

/// A trap in words: what the guest said last, or which limit it went beyond.
fn explain(view: &mut View, call: &str, trap: &wasmtime::Error) -> Failure {
    if let Some(other) = trap.downcast_ref::<OtherTypes>() {
        return Failure::new(FailureKind::Config, format!("the plugin cannot be used: {other}"));
    }
    let words = view.last_words.take();
    let cite = |name: &str| view.surroundings().limits.cite(name);
    let why = match (words, trap.downcast_ref::<Trap>(), view.memory.reached()) {
        // A guest ends itself after its last words; whatever else ends it is not what it says.
        (Some(words), Some(Trap::UnreachableCodeReached), None) => format!("panicked: {words}"),
        (_, Some(Trap::Interrupt), _) => {
            format!("computed for too long in one call: {}", cite("call-cpu"))
        }
        (_, Some(Trap::StackOverflow), _) => "called itself until its stack was full".into(),
        // A guest that gets no more memory ends itself.
        (_, Some(Trap::UnreachableCodeReached) | None, Some(limit)) => {
            format!("wanted more than it may have: {}", cite(limit))
        }
        (_, Some(Trap::UnreachableCodeReached), _) => "ended itself".into(),
        (_, Some(other), _) => {
            let trap = other.to_string();
            format!("trapped: {}", trap.trim_start_matches("wasm trap: "))
        }
        (_, None, _) => without_a_trap(trap, &cite),
    };
    view.complete(Failure::new(FailureKind::Crashed, format!("the plugin {why} (in `{call}`)")))
}

/// What the host's side of a call objected to.
fn without_a_trap(error: &wasmtime::Error, cite: &dyn Fn(&str) -> String) -> String {
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return format!("has exited, with status {status}, instead of answering");
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        return format!("opened too much at once: {}", cite("handles"));
    }
    let cause = error.root_cause().to_string();
    // These have no types of their own, or none that can be named.
    for (words, what, limit) in [
        ("fuel allocated for hostcalls", "handed over too much in one call", "call-data"),
        ("requested len", "asked for too many random bytes at once", "random"),
        ("total size of fields", "wrote too many headers", "http-head"),
        ("handle limit exceeded", "opened too much at once", "handles"),
        ("resource limit exceeded", "is made of too many parts", "instances"),
    ] {
        if cause.contains(words) {
            return format!("{what}: {}", cite(limit));
        }
    }
    format!("failed: {cause}")
}
