//! Instance of a plugin: a store and the calls of its exports. Each call is bounded in CPU time, and each except `next`
//! also in wall-clock time.

use crate::{
    bindings::{
        reloader::plugin::types as wit, validator::exports::reloader::plugin::validate::Validation,
    },
    call_denials::CallDenials,
    call_failure::{
        ExportTypeMismatch, cannot_watch, missing_export, timeout_failure, trap_failure,
    },
    cpu_timer::CpuTimer,
    export_lookup::{ExportIndices, Exports},
    imports::host_state::HostState,
    resolved_settings::ResolvedSettings,
    scheduler::{Scheduler, epoch_interruption::EPOCH, yield_to_other_threads},
    source_context::SourceContext,
};
use reloader_engine::types::{Cursor, Event, Failure, Outcome, Snapshot};
use reloader_util::sanitize::prefix;
use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::Semaphore, time::timeout};
use wasmtime::{Engine, Store, UpdateDeadline, component::InstancePre};

/// Linked component, ready to be instantiated any number of times.
pub(crate) struct Linked {
    pub(crate) engine: Engine,
    pub(crate) scheduler: Scheduler,
    pub(crate) instance: InstancePre<HostState>,
    pub(crate) exports: ExportIndices,
}

/// Instance that was opened with its settings.
///
/// An instance must not be used again after a call that trapped or exceeded its deadline. So each call consumes the
/// instance, and returns it in [`CallOutcome`] only if the guest returned an answer.
pub(crate) struct Instance {
    store: StoreGuard,
    exports: Exports,
    scheduler: Scheduler,
    cpu_timer: CpuTimer,
    context: Arc<SourceContext>,
}

/// Store that is dropped on the shared pool if its memory exceeds [`MAX_INLINE_DROP_BYTES`]: unmapping that memory
/// takes milliseconds.
struct StoreGuard {
    /// `None` only while the guard is dropped.
    store: Option<Store<HostState>>,
    scheduler: Scheduler,
    pending_drop: Arc<Semaphore>,
}

/// Maximum memory of a store that is dropped on the current thread, in bytes. Unmapping this memory takes a fraction of
/// a millisecond.
const MAX_INLINE_DROP_BYTES: usize = 4 << 20;

impl Deref for StoreGuard {
    type Target = Store<HostState>;

    fn deref(&self) -> &Store<HostState> {
        self.store.as_ref().unwrap_or_else(|| unreachable!("the store is present until the drop"))
    }
}

impl DerefMut for StoreGuard {
    fn deref_mut(&mut self) -> &mut Store<HostState> {
        self.store.as_mut().unwrap_or_else(|| unreachable!("the store is present until the drop"))
    }
}

impl Drop for StoreGuard {
    fn drop(&mut self) {
        if let Some(mut store) = self.store.take()
            && store.data_mut().memory.release() > MAX_INLINE_DROP_BYTES
            && let Ok(permit) = Arc::clone(&self.pending_drop).try_acquire_owned()
        {
            self.scheduler.drop_in_pool((store, permit));
        }
    }
}

/// Handles that the caller of a guest call keeps while the call owns the instance. Dropping them records the CPU time
/// and the denials of the call.
struct CallScope {
    scheduler: Scheduler,
    cpu_timer: CpuTimer,
    context: Arc<SourceContext>,
    call_denials: CallDenials,
}

impl CallScope {
    /// Returns the failure of a call that exceeded its deadline.
    fn timeout_failure(&self, export: &str) -> Failure {
        timeout_failure(&self.context.limits, &self.cpu_timer, export)
    }
}

/// Counts the CPU time of the call and logs its denials, also after a timeout or an abort of the call.
impl Drop for CallScope {
    fn drop(&mut self) {
        self.context.counters.add_cpu_time(self.cpu_timer.used());
        self.call_denials.log();
    }
}

/// Converts the answer of a validator. A rejection becomes a failure, because the host redacts secrets in the message
/// of each failure.
fn validation_to_result(answer: Result<Validation, wit::Failure>) -> Result<(), Failure> {
    match answer? {
        Validation::Accepted => Ok(()),
        Validation::Rejected(reason) => {
            let reason = if reason.trim().is_empty() { "no reason given" } else { &reason };
            Err(Failure::permanent(prefix(reason)))
        }
    }
}

/// Instance after a call, and the result of the call.
type Completed<T> = (Instance, wasmtime::Result<T>);

impl Instance {
    /// Instantiates a component, and calls the export `open` with the settings.
    pub(crate) async fn open(
        linked: &Arc<Linked>,
        context: &Arc<SourceContext>,
        resolved: &Arc<ResolvedSettings>,
    ) -> Result<Self, Failure> {
        let cpu_timer = CpuTimer::default();
        let (linked, resolved) = (Arc::clone(linked), Arc::clone(resolved));
        let store = new_store(&linked.engine, context, &resolved, &cpu_timer);
        let scope = CallScope {
            scheduler: linked.scheduler.clone(),
            cpu_timer,
            context: Arc::clone(context),
            call_denials: store.data().call_denials.clone(),
        };
        let pending_drop = Arc::clone(&context.pending_drop);
        let mut store =
            StoreGuard { store: Some(store), scheduler: scope.scheduler.clone(), pending_drop };
        let (cpu_timer, of_instance) = (scope.cpu_timer.clone(), Arc::clone(context));
        let open = Box::pin(async move {
            // Waits until the pool has unmapped the memory of a previous instance. The budget counts this memory as
            // free before it is unmapped.
            drop(store.pending_drop.acquire().await);
            let start = async {
                let instance = linked.instance.instantiate_async(&mut *store).await?;
                let exports =
                    linked.exports.load(&mut store, &instance).map_err(ExportTypeMismatch)?;
                let answer = exports.open(&mut store, &resolved.settings).await?;
                wasmtime::Result::Ok((exports, answer))
            };
            match start.await {
                Ok((exports, Ok(()))) => {
                    let scheduler = linked.scheduler.clone();
                    Ok(Self { store, exports, scheduler, cpu_timer, context: of_instance })
                }
                Ok((_, Err(failure))) => Err(store.data_mut().complete_failure(failure.into())),
                Err(trap) => Err(trap_failure(store.data_mut(), "open", &trap)),
            }
        });
        let limit = context.limits.call_timeout;
        match timeout(limit, scope.scheduler.run(&scope.cpu_timer, &context.cpu_quota, open)).await
        {
            Ok(opened) => opened,
            Err(_) => Err(scope.timeout_failure("open")),
        }
    }

    /// Fetches the source: calls the export `reload` with the known cursor.
    pub(crate) async fn reload(mut self, known: Option<Cursor>) -> CallOutcome<Outcome> {
        let Some(reload) = self.exports.reload.take() else {
            return CallOutcome::failed(missing_export("reload"));
        };
        let scope = self.scope();
        let limit = Some(self.context.limits.call_timeout);
        let call = async move {
            let known = known.as_ref().map(Cursor::as_str);
            let answer = reload.call_reload(&mut *self.store, known).await;
            self.exports.reload = Some(reload);
            (self, answer)
        };
        run_call("reload", limit, scope, call).await
    }

    /// Arms the watch: calls the export `arm` with the known cursor.
    pub(crate) async fn arm(mut self, known: Option<Cursor>) -> CallOutcome<()> {
        let Some(watch) = self.exports.watch.take() else {
            return CallOutcome::failed(cannot_watch());
        };
        let scope = self.scope();
        let limit = Some(self.context.limits.call_timeout);
        let call = async move {
            let known = known.as_ref().map(Cursor::as_str);
            let answer = watch.call_arm(&mut *self.store, known).await;
            self.exports.watch = Some(watch);
            (self, answer)
        };
        run_call("arm", limit, scope, call).await
    }

    /// Calls the export `next`, without a deadline: the engine bounds the silence of a watch.
    pub(crate) async fn next(mut self) -> CallOutcome<Event> {
        let Some(watch) = self.exports.watch.take() else {
            return CallOutcome::failed(cannot_watch());
        };
        let scope = self.scope();
        let call = async move {
            let answer = watch.call_next(&mut *self.store).await;
            self.exports.watch = Some(watch);
            (self, answer)
        };
        run_call("next", None, scope, call).await
    }

    /// Calls the export `validate`. The instance cannot be used again: each value gets a new instance.
    pub(crate) async fn validate(
        mut self,
        value: Snapshot,
        previous: Option<Snapshot>,
    ) -> CallOutcome<()> {
        let Some(validate) = self.exports.validate.take() else {
            return CallOutcome::failed(missing_export("validate"));
        };
        let scope = self.scope();
        let limit = Some(self.context.limits.call_timeout);
        let call = async move {
            let (value, previous) =
                (wit::Snapshot::from(&value), previous.as_ref().map(Into::into));
            let answer = validate.call_validate(&mut *self.store, &value, previous.as_ref()).await;
            (self, answer.map(validation_to_result))
        };
        run_call("validate", limit, scope, call).await
    }

    fn scope(&self) -> CallScope {
        CallScope {
            scheduler: self.scheduler.clone(),
            cpu_timer: self.cpu_timer.clone(),
            context: Arc::clone(&self.context),
            call_denials: self.store.data().call_denials.clone(),
        }
    }
}

/// Returns a store with the limits of the source.
fn new_store(
    engine: &Engine,
    context: &Arc<SourceContext>,
    resolved: &Arc<ResolvedSettings>,
    cpu_timer: &CpuTimer,
) -> Store<HostState> {
    let limits = &context.limits;
    let state = HostState::new(Arc::clone(context), Arc::clone(resolved));
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(limits.call_data());
    store.set_epoch_deadline(1);
    let (cpu_timer, call_cpu) = (cpu_timer.clone(), limits.call_cpu);
    store.epoch_deadline_callback(move |_| {
        if cpu_timer.is_in_background() {
            yield_to_other_threads();
        }
        let slice = cpu_timer.slice();
        Ok(if cpu_timer.used() + slice > call_cpu {
            UpdateDeadline::Interrupt
        } else if slice < EPOCH {
            // The time slice is not over, so the guest continues. An epoch can end early in a slice, for example if
            // the epoch started while the call was suspended.
            UpdateDeadline::Continue(1)
        } else {
            cpu_timer.preempt();
            UpdateDeadline::Yield(1)
        })
    });
    store
}

/// Runs a call until it ends or its deadline passes. The thread that runs the call also converts the answer, and drops
/// the instance after a trap.
async fn run_call<G, F, T>(
    export: &'static str,
    limit: Option<Duration>,
    scope: CallScope,
    call: impl Future<Output = Completed<Result<G, F>>> + Send + 'static,
) -> CallOutcome<T>
where
    G: Into<T> + Send + 'static,
    F: Into<Failure> + Send + 'static,
    T: Send + 'static,
{
    // The future is large, so it is boxed before it is moved.
    let call = Box::pin(async move {
        match call.await {
            (instance, Ok(answer)) => CallOutcome::completed(instance, answer),
            (mut instance, Err(trap)) => {
                CallOutcome::failed(trap_failure(instance.store.data_mut(), export, &trap))
            }
        }
    });
    let call = scope.scheduler.run(&scope.cpu_timer, &scope.context.cpu_quota, call);
    let outcome = match limit {
        Some(limit) => timeout(limit, call).await.ok(),
        None => Some(call.await),
    };
    outcome.unwrap_or_else(|| CallOutcome::failed(scope.timeout_failure(export)))
}

/// Result of a call, and the instance if a later call may use it.
pub(crate) struct CallOutcome<T> {
    pub(crate) instance: Option<Instance>,
    pub(crate) result: Result<T, Failure>,
}

impl<T> CallOutcome<T> {
    /// Returns the outcome of a call that returned an answer.
    fn completed<G: Into<T>, F: Into<Failure>>(
        mut instance: Instance,
        answer: Result<G, F>,
    ) -> Self {
        let state = instance.store.data_mut();
        state.memory.clear_reached_limit();
        state.panic_message = None;
        let result = match answer {
            Ok(answer) => Ok(answer.into()),
            Err(failure) => Err(state.complete_failure(failure.into())),
        };
        Self { instance: Some(instance), result }
    }

    /// Returns the outcome of a call after which there is no usable instance.
    fn failed(failure: Failure) -> Self {
        Self { instance: None, result: Err(failure) }
    }
}
