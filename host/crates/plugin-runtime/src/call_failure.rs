//! Failures of calls: traps, exceeded deadlines and limits, missing exports.

use crate::{
    address_space::{self, Exhausted},
    cpu_timer::CpuTimer,
    imports::host_state::HostState,
    limits::Limits,
};
use reloader_engine::types::{Failure, FailureKind};
use wasmtime::{Trap, component::ResourceTableError};
use wasmtime_wasi::I32Exit;

/// Error of a component whose exports have the expected names, but not the types of the plugin interface.
#[derive(Debug, thiserror::Error)]
#[error("the exports of the component do not have the types of the plugin interface: {0}")]
pub(crate) struct ExportTypeMismatch(pub(crate) wasmtime::Error);

/// Returns the failure of arming a watch if the plugin does not export `watch`.
pub(crate) fn cannot_watch() -> Failure {
    Failure::permanent("the plugin cannot watch; its source is polled")
}

/// Returns the failure of a call to an export that the plugin does not have.
pub(crate) fn missing_export(export: &str) -> Failure {
    Failure::new(FailureKind::Config, format!("the plugin does not export `{export}`"))
}

/// Divisor of a call's CPU time limit for the detection of overload. If a call exceeds its deadline while it is
/// preempted, and has used less CPU time than the limit divided by this number, the processors were overloaded. The
/// failure is then transient, not a crash.
const OVERLOAD_CPU_DIVISOR: u32 = 10;

/// Returns the failure of a call that exceeded its deadline.
pub(crate) fn timeout_failure(limits: &Limits, cpu_timer: &CpuTimer, export: &str) -> Failure {
    let limit = limits.cite("call-timeout");
    let min_cpu = limits.call_cpu.min(limits.call_timeout) / OVERLOAD_CPU_DIVISOR;
    if !cpu_timer.is_waiting() && cpu_timer.used() < min_cpu {
        let message = format!("`{export}` got too little CPU time to answer in time: {limit}");
        return Failure::transient(message);
    }
    let message = format!("the plugin did not answer `{export}` in time: {limit}");
    Failure::new(FailureKind::Crashed, message)
}

/// Returns the failure of a call that trapped. Its message contains the guest's panic message, the exceeded limit, or
/// the trap.
pub(crate) fn trap_failure(state: &mut HostState, export: &str, trap: &wasmtime::Error) -> Failure {
    if let Some(mismatch) = trap.downcast_ref::<ExportTypeMismatch>() {
        let message = format!("the plugin cannot be used: {mismatch}");
        return Failure::new(FailureKind::Config, message);
    }
    if is_out_of_memory(state, trap) {
        return out_of_memory_failure(export, address_space::limit());
    }
    let panic_message = state.panic_message.take();
    let cite = |name: &str| state.context.limits.cite(name);
    let reason = match (panic_message, trap.downcast_ref::<Trap>(), state.memory.reached_limit()) {
        // A guest that panics traps as `unreachable`. After any other trap, the panic message is not the cause.
        (Some(message), Some(Trap::UnreachableCodeReached), None) => format!("panicked: {message}"),
        (_, Some(Trap::Interrupt), _) => {
            format!("used too much CPU time in one call: {}", cite("call-cpu"))
        }
        (_, Some(Trap::StackOverflow), _) => "overflowed its stack".into(),
        // A guest that gets no memory aborts, which traps as `unreachable`.
        (_, Some(Trap::UnreachableCodeReached) | None, Some(limit)) => {
            format!("exceeded a limit: {}", cite(limit))
        }
        (_, Some(Trap::UnreachableCodeReached), _) => "aborted".into(),
        (_, Some(other), _) => {
            let trap = other.to_string();
            format!("trapped: {}", trap.trim_start_matches("wasm trap: "))
        }
        (_, None, _) => host_error_reason(trap, &cite),
    };
    let message = format!("the plugin {reason} (in `{export}`)");
    state.complete_failure(Failure::new(FailureKind::Crashed, message))
}

/// Returns whether the system had no memory for the instance.
fn is_out_of_memory(state: &HostState, trap: &wasmtime::Error) -> bool {
    let is_exhausted = state.memory.is_system_exhausted();
    match trap.downcast_ref::<Trap>() {
        // A guest that gets no memory aborts, which traps as `unreachable`.
        Some(trap) => *trap == Trap::UnreachableCodeReached && is_exhausted,
        // An error of wasmtime without a public type, recognised by its text.
        None => is_exhausted || trap.root_cause().to_string().contains("Cannot allocate memory"),
    }
}

/// Returns the failure of a call for which the system had no memory. The failure is not a crash, because the plugin has
/// not caused it.
fn out_of_memory_failure(export: &str, address_space_limit: Option<u64>) -> Failure {
    let reason = match address_space_limit {
        Some(limit) => Exhausted { limit }.to_string(),
        None => "hint: check the free memory and `vm.max_map_count`".into(),
    };
    Failure::transient(format!("the system has no memory for the plugin (in `{export}`): {reason}"))
}

/// Returns the reason of an error that the host raised during a call.
fn host_error_reason(error: &wasmtime::Error, cite: &dyn Fn(&str) -> String) -> String {
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return format!("exited with status {status} during a call");
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        return format!("has too many open handles: {}", cite("handles"));
    }
    let cause = error.root_cause().to_string();
    // Errors of wasmtime without public types, recognised by their text.
    for (text, reason, limit) in [
        ("fuel allocated for hostcalls", "passed too much data in one call", "call-data"),
        ("requested len", "requested too many random bytes in one call", "random"),
        ("total size of fields", "set too many header fields", "http-head"),
        ("handle limit exceeded", "has too many open handles", "handles"),
        ("resource limit exceeded", "has too many core instances, memories or tables", "instances"),
    ] {
        if cause.contains(text) {
            return format!("{reason}: {}", cite(limit));
        }
    }
    format!("failed: {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_failure_names_address_space_limit() {
        let failure = out_of_memory_failure("open", Some(2_000_000 << 10));
        assert!(failure.kind.is_transient() && failure.kind != FailureKind::Crashed);
        let expected = "the system has no memory for the plugin (in `open`): the address space of this process is \
                        limited to 2000000 KiB; hint: raise `ulimit -v` or `LimitAS=`";
        assert_eq!(&*failure.message, expected);
    }
}
