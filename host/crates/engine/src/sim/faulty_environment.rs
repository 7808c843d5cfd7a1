//! Environment of the simulated host: the queue of its events, the faulty transport to the source,
//! and the operator.
//!
//! Fetches and watch events fail, hang, and arrive late, repeatedly, out of order or with an
//! outdated state. Restarts, reloads, pins and unpins happen at random times.

use super::{
    faults::Faults,
    rng::SimRng,
    source::{Content, SimValue, Source},
};
use crate::{
    Input, Session, Settings,
    types::{Cursor, Event, Failure, FailureKind, Outcome, Value},
};
use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::{Duration, Instant},
};

/// Origin of an input. Only the oracle knows the origin; the engine does not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Provenance {
    /// Time at which the source reported the input.
    pub(super) reported_at: Instant,
    /// Index of the state of the source that the input reports.
    pub(super) state: usize,
}

/// Next event of the simulated environment that the simulated host handles.
#[derive(Debug)]
pub(super) enum EnvironmentEvent {
    Input(Input<SimValue>, Provenance),
    Restart,
    None,
}

/// Action of the simulated environment that is scheduled for a point in virtual time.
#[derive(Debug)]
enum Action {
    /// The source changes to the state with this index.
    State(usize),
    Restart,
    Reload,
    /// The operator pins the value of the state with this index.
    Pin(usize),
    /// The operator removes the pin.
    Unpin,
    /// An input arrives at the engine.
    Deliver(Input<SimValue>, Provenance),
    Arm(Session),
    Alive(Session),
    LoseWatch(Session, Failure),
}

/// Queue entry, ordered by its time and then by its insertion.
#[derive(Debug)]
struct Scheduled {
    at: Instant,
    order: u64,
    action: Action,
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

/// Kind of the change notifications of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotificationKind {
    /// Events with the new value.
    Value,
    /// Events without the value: the engine has to fetch it.
    Dirty,
    /// Random mixture of both.
    Either,
}

/// Connection of a watch, as seen by the source.
#[derive(Debug)]
struct WatchConnection {
    session: Session,
    armed: bool,
    /// Half-open connection: no event arrives any more.
    silent: bool,
    /// Set if every event since the arming was delivered.
    complete: bool,
}

#[derive(Debug)]
pub(super) struct Environment {
    pub(super) source: Source,
    pub(super) faults: Faults,
    /// Time at which the environment heals: faults end and the source stops changing.
    pub(super) heal_at: Instant,
    /// Arrival time of the last input that was sent before `heal_at`.
    pub(super) settled_at: Instant,
    /// Period of virtual time in which the simulated host is suspended, as by the sleep of a laptop.
    suspension: Option<(Instant, Instant)>,
    notification_kind: NotificationKind,
    timeout: Duration,
    liveness: Duration,
    connection: Option<WatchConnection>,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
}

impl Environment {
    pub(super) fn draw(rng: &mut SimRng, start: Instant, settings: &Settings) -> Self {
        let source = Source::draw(rng, start, settings);
        let last = source.last().from;
        let mut environment = Self {
            faults: Faults::draw(rng),
            heal_at: last + rng.up_to(settings.interval),
            settled_at: start,
            suspension: None,
            notification_kind: rng.pick(&[
                NotificationKind::Value,
                NotificationKind::Value,
                NotificationKind::Dirty,
                NotificationKind::Either,
            ]),
            timeout: settings.timeout,
            liveness: settings.liveness,
            connection: None,
            queue: BinaryHeap::new(),
            order: 0,
            source,
        };
        let span = environment.heal_at - start;
        if rng.chance(0.1) {
            let from = start + rng.up_to(span);
            // Events that are scheduled during the suspension happen when it ends.
            let to = from + rng.up_to(Duration::from_secs(7 * 3600));
            environment.suspension = Some((from, to));
            environment.heal_at = environment.heal_at.max(to);
        }
        for state in 1..environment.source.states.len() {
            environment.schedule(environment.source.states[state].from, Action::State(state));
        }
        for _ in 0..if rng.chance(0.3) { 1 + rng.below(3) } else { 0 } {
            environment.schedule(start + rng.up_to(span), Action::Restart);
        }
        for _ in 0..if rng.chance(0.3) { 1 + rng.below(3) } else { 0 } {
            environment.schedule(start + rng.up_to(span), Action::Reload);
        }
        if rng.chance(0.3) {
            environment.plan_pins(rng, start, span);
        }
        environment
    }

    /// Schedules pins and unpins. Most simulations end without a pin.
    fn plan_pins(&mut self, rng: &mut SimRng, start: Instant, span: Duration) {
        for _ in 0..1 + rng.below(3) {
            let at = start + rng.up_to(span);
            let state = rng.below(self.source.state_at(at) + 1);
            self.schedule(at, Action::Pin(state));
            let length = if rng.chance(0.5) { rng.up_to(Duration::from_secs(2)) } else { span };
            self.schedule(self.heal_at.min(at + rng.up_to(length)), Action::Unpin);
        }
        if rng.chance(0.8) {
            self.schedule(self.heal_at, Action::Unpin);
        }
    }

    /// Returns the time of the next environment event.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse(next)| next.at)
    }

    /// Returns the actual time of an event scheduled for `at`: a suspension of the host delays the
    /// event.
    pub(super) fn awake_at(&self, at: Instant) -> Instant {
        match self.suspension {
            Some((from, to)) if (from..to).contains(&at) => to,
            Some(_) | None => at,
        }
    }

    /// Returns whether a live watch has delivered every event, so that the host has received the
    /// current value of the source.
    pub(super) fn has_complete_watch(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.armed && connection.complete)
    }

    /// Returns whether a watch is silent and has a liveness limit that detects it.
    pub(super) fn has_silent_watch(&self) -> bool {
        self.liveness < Duration::MAX
            && self.connection.as_ref().is_some_and(|connection| connection.silent)
    }

    /// Restarts the host: inputs in transit are lost.
    pub(super) fn restart(&mut self) {
        self.connection = None;
        self.queue.retain(|Reverse(next)| {
            let Scheduled { action, .. } = next;
            matches!(
                action,
                Action::State(_)
                    | Action::Restart
                    | Action::Reload
                    | Action::Pin(_)
                    | Action::Unpin
            )
        });
    }

    pub(super) fn fetch(
        &mut self,
        rng: &mut SimRng,
        now: Instant,
        session: Session,
        cursor: Option<&Cursor>,
    ) {
        let faulty = now < self.heal_at;
        let mut fetched_at = now + self.latency(rng, faulty);
        let mut answer_at = fetched_at + self.latency(rng, faulty);
        if faulty && rng.chance(self.faults.hang) {
            if rng.chance(0.5) {
                return;
            }
            // The source answers before the deadline, but the answer arrives after it.
            fetched_at = now + rng.up_to(self.timeout);
            answer_at = now + self.timeout + rng.up_to(Duration::from_secs(10));
        }
        let state = self.source.state_at(fetched_at);
        let provenance = Provenance { reported_at: fetched_at, state };
        let result = if self.source.is_unreachable(fetched_at) {
            Err(Failure::transient("connection refused"))
        } else if faulty && rng.chance(self.faults.crash) {
            Err(crash())
        } else if faulty && rng.chance(self.faults.fail) {
            Err(rng.failure(self.faults.permanent_failures, self.faults.max_retry_after))
        } else {
            Ok(match &self.source.states[state].value {
                None => Outcome::Absent,
                Some(sim_value) if cursor.is_some() && sim_value.cursor() == cursor => {
                    Outcome::Unchanged
                }
                Some(sim_value) => Outcome::Changed(sim_value.clone()),
            })
        };
        self.schedule(answer_at, Action::Deliver(Input::Fetched(session, result), provenance));
    }

    pub(super) fn open(&mut self, rng: &mut SimRng, now: Instant, session: Session) {
        self.connection =
            Some(WatchConnection { session, armed: false, silent: false, complete: true });
        let faulty = now < self.heal_at;
        let mut at = now + self.latency(rng, faulty);
        if faulty && rng.chance(self.faults.hang) {
            at = now + self.timeout + rng.up_to(Duration::from_secs(10));
        }
        if self.source.is_unreachable(at) {
            self.schedule(at, Action::LoseWatch(session, Failure::transient("connection refused")));
        } else if faulty && rng.chance(self.faults.crash / 2.0) {
            self.schedule(at, Action::LoseWatch(session, crash()));
        } else if faulty && rng.chance(self.faults.fail) {
            let failure = rng.failure(self.faults.permanent_failures, self.faults.max_retry_after);
            self.schedule(at, Action::LoseWatch(session, failure));
        } else {
            self.schedule(at, Action::Arm(session));
        }
    }

    /// Closes the watch. A late input of the closed watch may still arrive.
    pub(super) fn close(&mut self, rng: &mut SimRng, now: Instant) {
        if let Some(connection) = self.connection.take() {
            self.schedule_late_input(rng, now, connection.session);
        }
    }

    /// Schedules the delivery of a validation result to the engine after a random delay.
    pub(super) fn schedule_validation_result(
        &mut self,
        rng: &mut SimRng,
        now: Instant,
        session: Session,
        result: Result<(), Failure>,
    ) {
        let max_delay = if now < self.heal_at { Duration::MAX } else { Duration::from_millis(20) };
        let at = now + rng.up_to(self.faults.max_validation_delay.min(max_delay));
        self.deliver(at, Input::Validated(session, result), self.provenance(now));
    }

    /// Removes the next environment event from the queue and applies it.
    pub(super) fn pop(&mut self, rng: &mut SimRng, now: Instant) -> EnvironmentEvent {
        let Some(Reverse(Scheduled { at, action, .. })) = self.queue.pop() else {
            return EnvironmentEvent::None;
        };
        let provenance = self.provenance(at);
        match action {
            Action::State(state) => self.notify_change(rng, now, at, state),
            Action::Restart => EnvironmentEvent::Restart,
            Action::Reload => EnvironmentEvent::Input(Input::ReloadNow, provenance),
            Action::Pin(state) => match &self.source.states[state].value {
                Some(sim_value) => {
                    EnvironmentEvent::Input(Input::Pin(sim_value.clone()), provenance)
                }
                None => EnvironmentEvent::None,
            },
            Action::Unpin => EnvironmentEvent::Input(Input::Unpin, provenance),
            Action::Deliver(input, provenance) => EnvironmentEvent::Input(input, provenance),
            Action::Arm(session) => {
                if let Some(connection) = self.connection_of(session) {
                    connection.armed = true;
                    self.next_alive(rng, now, session);
                    let crashes = rng.chance(self.faults.crash);
                    if now < self.heal_at && (crashes || rng.chance(self.faults.end_watch)) {
                        let at = now + rng.up_to(Duration::from_secs(10));
                        let failure = rng
                            .failure(self.faults.permanent_failures, self.faults.max_retry_after);
                        let failure = if crashes { crash() } else { failure };
                        self.schedule(at.min(self.heal_at), Action::LoseWatch(session, failure));
                    }
                }
                EnvironmentEvent::Input(Input::Armed(session), provenance)
            }
            Action::Alive(session) => {
                let silent = now < self.heal_at && rng.chance(self.faults.silence_watch);
                let Some(connection) = self.connection_of(session) else {
                    return EnvironmentEvent::None;
                };
                if silent || connection.silent {
                    connection.silent = true;
                    connection.complete = false;
                    return EnvironmentEvent::None;
                }
                self.next_alive(rng, now, session);
                EnvironmentEvent::Input(Input::Watched(session, Event::Alive), provenance)
            }
            Action::LoseWatch(session, failure) => {
                if self.connection_of(session).is_none() {
                    return EnvironmentEvent::None;
                }
                self.connection = None;
                self.schedule_late_input(rng, now, session);
                EnvironmentEvent::Input(Input::WatchLost(session, failure), provenance)
            }
        }
    }

    /// Applies a change of the source, and delivers the event of the watch, if any.
    fn notify_change(
        &mut self,
        rng: &mut SimRng,
        now: Instant,
        at: Instant,
        state: usize,
    ) -> EnvironmentEvent {
        let Some(connection) = &mut self.connection else { return EnvironmentEvent::None };
        if !connection.armed || connection.silent {
            return EnvironmentEvent::None;
        }
        let session = connection.session;
        let faulty = now < self.heal_at;
        let reported = if faulty && rng.chance(self.faults.outdated_event) {
            rng.below(state + 1)
        } else {
            state
        };
        connection.complete &= reported == state;
        let event = match &self.source.states[reported].value {
            _ if self.notification_kind == NotificationKind::Dirty => Event::Dirty,
            _ if self.notification_kind == NotificationKind::Either && rng.chance(0.5) => {
                Event::Dirty
            }
            Some(sim_value) => Event::Changed(sim_value.clone()),
            None => Event::Removed,
        };
        let provenance = Provenance { reported_at: at, state: reported };
        if faulty && rng.chance(self.faults.lose_event) {
            connection.complete = false;
            // Queue overflow: the event is lost, and the watch reports a dirty event instead.
            if rng.chance(0.5) {
                let at = now + rng.up_to(Duration::from_secs(3));
                self.deliver(at, Input::Watched(session, Event::Dirty), provenance);
            }
            return EnvironmentEvent::None;
        }
        if faulty && rng.chance(self.faults.reorder_event) {
            let at = now + rng.up_to(Duration::from_secs(3));
            self.deliver(at, Input::Watched(session, event.clone()), provenance);
            if rng.chance(0.5) {
                if let Some(connection) = &mut self.connection {
                    connection.complete = false;
                }
                return EnvironmentEvent::None;
            }
        }
        EnvironmentEvent::Input(Input::Watched(session, event), provenance)
    }

    /// Schedules a late input of a closed watch, with some probability.
    fn schedule_late_input(&mut self, rng: &mut SimRng, now: Instant, session: Session) {
        if now >= self.heal_at || rng.chance(0.5) {
            return;
        }
        let state = rng.below(self.source.state_at(now) + 1);
        let event = match &self.source.states[state].value {
            Some(sim_value) => Event::Changed(sim_value.clone()),
            None => Event::Removed,
        };
        let input = match rng.below(4) {
            0 => Input::WatchLost(session, Failure::transient("late")),
            1 => Input::Armed(session),
            _ => Input::Watched(session, event),
        };
        let at = now + rng.up_to(Duration::from_secs(8));
        self.deliver(at, input, Provenance { reported_at: now, state });
    }

    fn next_alive(&mut self, rng: &mut SimRng, now: Instant, session: Session) {
        if self.liveness < Duration::MAX {
            let min_delay = self.liveness.mul_f64(if now < self.heal_at { 0.2 } else { 0.7 });
            let at = now + rng.between(min_delay, self.liveness.mul_f64(0.8));
            self.schedule(at, Action::Alive(session));
        }
    }

    fn latency(&self, rng: &mut SimRng, faulty: bool) -> Duration {
        let slow = faulty && rng.chance(self.faults.slow);
        rng.up_to(if slow { self.timeout.mul_f64(0.7) } else { Duration::from_millis(40) })
    }

    fn connection_of(&mut self, session: Session) -> Option<&mut WatchConnection> {
        self.connection.as_mut().filter(|connection| connection.session == session)
    }

    fn provenance(&self, now: Instant) -> Provenance {
        Provenance { reported_at: now, state: self.source.state_at(now) }
    }

    /// Returns the content of the state with this index.
    pub(super) fn content(&self, state: usize) -> Option<Content> {
        self.source.states[state].content()
    }

    fn deliver(&mut self, at: Instant, input: Input<SimValue>, provenance: Provenance) {
        self.schedule(at, Action::Deliver(input, provenance));
    }

    fn schedule(&mut self, at: Instant, action: Action) {
        if matches!(action, Action::Deliver(..)) && at < self.heal_at + Duration::from_secs(60) {
            self.settled_at = self.settled_at.max(at);
        }
        self.order += 1;
        self.queue.push(Reverse(Scheduled { at, order: self.order, action }));
    }
}

fn crash() -> Failure {
    Failure::new(FailureKind::Crashed, "the plugin trapped")
}
