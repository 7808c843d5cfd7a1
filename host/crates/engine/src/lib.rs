//! State machine of one source: when to fetch it, when to watch it, and what to publish.
//!
//! One engine serves polling, realtime and hybrid sources. It is sans-I/O: it reads no clock, does
//! no I/O, and depends neither on tokio nor on WebAssembly. A driver calls [`Engine::start`] once,
//! then [`Engine::step`] for each [`Input`] and at each [`Engine::deadline`]. The driver executes
//! the returned [`Effect`]s in order.
//!
//! ```
//! use reloader_engine::{
//!     Effect, Engine, Input, Settings,
//!     types::{Outcome, Snapshot, Strategy},
//! };
//! use std::time::{Duration, Instant};
//!
//! let mut now = Instant::now();
//! let settings = Settings::new(Strategy::Polling, Duration::from_secs(10));
//! let mut engine = Engine::<Snapshot>::new(settings, 1, now);
//! let mut effects = engine.start(now);
//! while !effects.iter().any(|effect| matches!(effect, Effect::Fetch { .. })) {
//!     now = engine.deadline().expect("the first poll is scheduled");
//!     effects = engine.step(now, Input::Tick);
//! }
//! ```
//!
//! Three state machines form the engine:
//!
//! - `fetch`: `Due(at)` → `InFlight` → `Due(at)`; fetches the source.
//! - `watch`: `Off`; or `Waiting` for the first fetch, then `Down(retry_at)` → `Opening` → `Live` →
//!   `Down`; watches the source.
//! - `value_state`: the published or pinned value, the value in validation, and the rejected value.
//!
//! # Contract
//!
//! The engine guarantees these properties. Each has a test `point_N_…` in `tests/contract`, and the
//! simulation in `sim` checks all of them under random faults.
//!
//! 1. **Convergence.** Intermediate values may be coalesced; the final value of the source is
//!    always published. A fetch follows each arming of a watch, so that no change before the arming
//!    is lost. A change notification during a fetch causes a refetch. A reconcile poll fetches the
//!    source even while a watch is live.
//! 2. **Revisions only increase**, also across a restart ([`Engine::resume`]).
//! 3. **The latest value is published at least once**, also across a restart, and **an older value
//!    never follows a newer one**. Each answer carries the session number of its request, and the
//!    engine ignores late answers. A fetch result that may be older does not replace a value that
//!    the watch reported during the fetch.
//! 4. **The cursor advances only after the value is accepted** ([`Effect::Validate`],
//!    [`Input::Validated`]). A value rejected for a transient reason is validated again.
//! 5. **A new value is compared with the last attempted value**, i.e. the last one that was
//!    validated, even if it was rejected. If a source reports a good value, a rejected one and the
//!    same good value again, the good value is published twice.
//! 6. **Freshness is explicit.** [`Effect::Confirmed`] reports each confirmation by the source,
//!    [`Effect::Stale`] the start of staleness with its reason, and [`Effect::Fresh`] the end. A
//!    crash makes the value stale immediately. A value from before a restart is stale until the
//!    source confirms it.
//! 7. **A failure never removes a value.** The last known good value stays published. An absent or
//!    empty value replaces a non-empty one only after a later fetch has confirmed the removal. The
//!    delay before that fetch is longer after an outage or a restart.
//! 8. **Faults are isolated.** An engine serves one source, shares no state, and continues after
//!    every failure. Only settings that can never work end the engine ([`Effect::GiveUp`]).
//!    Repeated crashes cause a quarantine. Each quarantine is twice as long as the previous one, up
//!    to one hour. Only an explicit reload ends a quarantine early ([`Input::ReloadNow`]); events of
//!    the plugin do not.
//! 9. **Every call has a deadline.** This applies to fetches and to opening a watch; a live watch
//!    has a liveness limit.
//! 10. **Uncertainty causes an unconditional fetch**, i.e. one without a cursor. A weak ETag
//!     therefore cannot hide a change that the source has announced.
//! 11. **A pinned value stays published**, whatever the source reports, also across a restart
//!     ([`Input::Pin`], [`Engine::pinned`]). After an unpin, the value of the source is published
//!     again ([`Input::Unpin`]).

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests replace the driver and read the clock")
)]

#[cfg(feature = "decode")]
pub mod toml_yaml_limits;
#[cfg(feature = "decode")]
mod typed_value_decode;
pub mod types;

mod crash_quarantine;
mod engine;
mod engine_settings;
mod engine_state;
mod event_and_fetch_order;
mod fetch;
mod freshness;
mod hybrid_fallback;
mod inputs_and_effects;
mod jitter_rng;
mod on_failure;
mod on_fetch_result;
mod on_source_value;
mod on_validation_result;
mod on_watch_event;
mod pin;
mod replace_source;
mod retry_delay;
#[cfg(test)]
mod sim;
mod start_and_cancel_calls;
#[cfg(test)]
mod tests;
mod value_state;
mod watch;

pub use engine::Engine;
pub use engine_settings::Settings;
pub use freshness::UNCONFIRMED;
pub use inputs_and_effects::{Effect, Input, Report, Role, Session};

/// Deserialization of values into the application's own types.
#[cfg(feature = "decode")]
pub mod decode {
    pub use crate::typed_value_decode::{DecodeError, Format, text};
}
