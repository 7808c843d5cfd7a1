//! The faulty world between the engine and its source: what answers, late or never; what watches,
//! and loses, repeats, reorders and makes up events.

use super::{
    faults::Faults,
    rng::Dice,
    source::{Content, Held, Source},
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

/// What the oracle may know of an input, and the engine may not.
#[derive(Debug, Clone, Copy)]
pub(super) struct About {
    /// When the source said it.
    pub(super) said_at: Instant,
    /// What its state was then.
    pub(super) state: usize,
}

/// What happens next.
#[derive(Debug)]
pub(super) enum Happening {
    Input(Input<Held>, About),
    Restart,
    Nothing,
}

#[derive(Debug)]
enum Item {
    /// The source goes to its state of this number.
    State(usize),
    Restart,
    Reload,
    /// Somebody pins what the source held in its state of this number …
    Pin(usize),
    /// … and lets go of it.
    Unpin,
    /// On its way to the engine.
    Deliver(Input<Held>, About),
    Arm(Session),
    Alive(Session),
    Die(Session, Failure),
}

#[derive(Debug)]
struct Scheduled {
    at: Instant,
    order: u64,
    item: Item,
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

/// What a watch tells of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tells {
    Value,
    Dirty,
    Either,
}

/// The source's side of a watch.
#[derive(Debug)]
struct Link {
    session: Session,
    armed: bool,
    /// It is silent, and does not know.
    mute: bool,
    /// No event has been lost since it was armed.
    complete: bool,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) source: Source,
    pub(super) faults: Faults,
    /// From here on nothing goes wrong any more, and the source stands still.
    pub(super) heal_at: Instant,
    /// When the last of what is under way from before has arrived.
    pub(super) calm_at: Instant,
    /// The machine sleeps from here to there.
    suspended: Option<(Instant, Instant)>,
    tells: Tells,
    timeout: Duration,
    liveness: Duration,
    link: Option<Link>,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
}

impl World {
    pub(super) fn draw(dice: &mut Dice, start: Instant, settings: &Settings) -> Self {
        let source = Source::draw(dice, start, settings);
        let last = source.last().from;
        let mut world = Self {
            faults: Faults::draw(dice),
            heal_at: last + dice.up_to(settings.interval),
            calm_at: start,
            suspended: None,
            tells: dice.pick(&[Tells::Value, Tells::Value, Tells::Dirty, Tells::Either]),
            timeout: settings.timeout,
            liveness: settings.liveness,
            link: None,
            queue: BinaryHeap::new(),
            order: 0,
            source,
        };
        let span = world.heal_at - start;
        if dice.chance(0.1) {
            let from = start + dice.up_to(span);
            // Whatever was planned for the night has happened when it wakes up.
            let to = from + dice.up_to(Duration::from_secs(7 * 3600));
            world.suspended = Some((from, to));
            world.heal_at = world.heal_at.max(to);
        }
        for state in 1..world.source.states.len() {
            world.schedule(world.source.states[state].from, Item::State(state));
        }
        for _ in 0..if dice.chance(0.3) { 1 + dice.below(3) } else { 0 } {
            world.schedule(start + dice.up_to(span), Item::Restart);
        }
        for _ in 0..if dice.chance(0.3) { 1 + dice.below(3) } else { 0 } {
            world.schedule(start + dice.up_to(span), Item::Reload);
        }
        if dice.chance(0.3) {
            world.plan_pins(dice, start, span);
        }
        world
    }

    /// Values are pinned and let go; in the end there is mostly none.
    fn plan_pins(&mut self, dice: &mut Dice, start: Instant, span: Duration) {
        for _ in 0..1 + dice.below(3) {
            let at = start + dice.up_to(span);
            let state = dice.below(self.source.state_at(at) + 1);
            self.schedule(at, Item::Pin(state));
            let held = if dice.chance(0.5) { dice.up_to(Duration::from_secs(2)) } else { span };
            self.schedule(self.heal_at.min(at + dice.up_to(held)), Item::Unpin);
        }
        if dice.chance(0.8) {
            self.schedule(self.heal_at, Item::Unpin);
        }
    }

    /// When the next thing happens.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse(next)| next.at)
    }

    /// The time that it is at a time for which something was planned: later, if the machine sleeps.
    pub(super) fn awake_at(&self, at: Instant) -> Instant {
        match self.suspended {
            Some((from, to)) if (from..to).contains(&at) => to,
            Some(_) | None => at,
        }
    }

    /// Whether a live watch has told everything since it was armed, and so knows the source's value.
    pub(super) fn has_complete_watch(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.armed && link.complete)
    }

    /// Whether there is a watch that is dead, and that can be noticed.
    pub(super) fn has_mute_watch(&self) -> bool {
        self.liveness < Duration::MAX && self.link.as_ref().is_some_and(|link| link.mute)
    }

    /// The host ends: what was under way to it is lost.
    pub(super) fn restart(&mut self) {
        self.link = None;
        self.queue.retain(|Reverse(next)| {
            let Scheduled { item, .. } = next;
            matches!(
                item,
                Item::State(_) | Item::Restart | Item::Reload | Item::Pin(_) | Item::Unpin
            )
        });
    }

    pub(super) fn fetch(
        &mut self,
        dice: &mut Dice,
        now: Instant,
        session: Session,
        known: Option<&Cursor>,
    ) {
        let faulty = now < self.heal_at;
        let mut read_at = now + self.latency(dice, faulty);
        let mut answer_at = read_at + self.latency(dice, faulty);
        if faulty && dice.chance(self.faults.hang) {
            if dice.chance(0.5) {
                return;
            }
            // It comes, when nobody waits for it any more.
            read_at = now + dice.up_to(self.timeout);
            answer_at = now + self.timeout + dice.up_to(Duration::from_secs(10));
        }
        let state = self.source.state_at(read_at);
        let about = About { said_at: read_at, state };
        let result = if self.source.is_out(read_at) {
            Err(Failure::transient("connection refused"))
        } else if faulty && dice.chance(self.faults.crash) {
            Err(crash())
        } else if faulty && dice.chance(self.faults.fail) {
            Err(dice.failure(self.faults.harsh, self.faults.longest_pause))
        } else {
            Ok(match &self.source.states[state].value {
                None => Outcome::Absent,
                Some(held) if known.is_some() && held.cursor() == known => Outcome::Unchanged,
                Some(held) => Outcome::Changed(held.clone()),
            })
        };
        self.schedule(answer_at, Item::Deliver(Input::Fetched(session, result), about));
    }

    pub(super) fn open(&mut self, dice: &mut Dice, now: Instant, session: Session) {
        self.link = Some(Link { session, armed: false, mute: false, complete: true });
        let faulty = now < self.heal_at;
        let mut at = now + self.latency(dice, faulty);
        if faulty && dice.chance(self.faults.hang) {
            at = now + self.timeout + dice.up_to(Duration::from_secs(10));
        }
        if self.source.is_out(at) {
            self.schedule(at, Item::Die(session, Failure::transient("connection refused")));
        } else if faulty && dice.chance(self.faults.crash / 2.0) {
            self.schedule(at, Item::Die(session, crash()));
        } else if faulty && dice.chance(self.faults.fail) {
            let failure = dice.failure(self.faults.harsh, self.faults.longest_pause);
            self.schedule(at, Item::Die(session, failure));
        } else {
            self.schedule(at, Item::Arm(session));
        }
    }

    /// The engine drops the watch. Something of it may still come.
    pub(super) fn close(&mut self, dice: &mut Dice, now: Instant) {
        if let Some(link) = self.link.take() {
            self.straggler(dice, now, link.session);
        }
    }

    /// The validator has judged, at last.
    pub(super) fn judged(
        &mut self,
        dice: &mut Dice,
        now: Instant,
        session: Session,
        verdict: Result<(), Failure>,
    ) {
        let slowly = if now < self.heal_at { Duration::MAX } else { Duration::from_millis(20) };
        let at = now + dice.up_to(self.faults.judging.min(slowly));
        self.deliver(at, Input::Judged(session, verdict), self.about(now));
    }

    /// Takes what happens next.
    pub(super) fn pop(&mut self, dice: &mut Dice, now: Instant) -> Happening {
        let Some(Reverse(Scheduled { at, item, .. })) = self.queue.pop() else {
            return Happening::Nothing;
        };
        let about = self.about(at);
        match item {
            Item::State(state) => self.changed(dice, now, at, state),
            Item::Restart => Happening::Restart,
            Item::Reload => Happening::Input(Input::ReloadNow, about),
            Item::Pin(state) => match &self.source.states[state].value {
                Some(held) => Happening::Input(Input::Pin(held.clone()), about),
                None => Happening::Nothing,
            },
            Item::Unpin => Happening::Input(Input::Unpin, about),
            Item::Deliver(input, about) => Happening::Input(input, about),
            Item::Arm(session) => {
                if let Some(link) = self.link_of(session) {
                    link.armed = true;
                    self.next_alive(dice, now, session);
                    let crashes = dice.chance(self.faults.crash);
                    if now < self.heal_at && (crashes || dice.chance(self.faults.die)) {
                        let at = now + dice.up_to(Duration::from_secs(10));
                        let failure = dice.failure(self.faults.harsh, self.faults.longest_pause);
                        let failure = if crashes { crash() } else { failure };
                        self.schedule(at.min(self.heal_at), Item::Die(session, failure));
                    }
                }
                Happening::Input(Input::Armed(session), about)
            }
            Item::Alive(session) => {
                let mute = now < self.heal_at && dice.chance(self.faults.mute);
                let Some(link) = self.link_of(session) else { return Happening::Nothing };
                if mute || link.mute {
                    link.mute = true;
                    link.complete = false;
                    return Happening::Nothing;
                }
                self.next_alive(dice, now, session);
                Happening::Input(Input::Watched(session, Event::Alive), about)
            }
            Item::Die(session, failure) => {
                if self.link_of(session).is_none() {
                    return Happening::Nothing;
                }
                self.link = None;
                self.straggler(dice, now, session);
                Happening::Input(Input::WatchLost(session, failure), about)
            }
        }
    }

    /// The source has changed: tells it to who watches, or not.
    fn changed(&mut self, dice: &mut Dice, now: Instant, at: Instant, state: usize) -> Happening {
        let Some(link) = &mut self.link else { return Happening::Nothing };
        if !link.armed || link.mute {
            return Happening::Nothing;
        }
        let session = link.session;
        let faulty = now < self.heal_at;
        let told =
            if faulty && dice.chance(self.faults.lie) { dice.below(state + 1) } else { state };
        link.complete &= told == state;
        let event = match &self.source.states[told].value {
            _ if self.tells == Tells::Dirty => Event::Dirty,
            _ if self.tells == Tells::Either && dice.chance(0.5) => Event::Dirty,
            Some(held) => Event::Changed(held.clone()),
            None => Event::Removed,
        };
        let about = About { said_at: at, state: told };
        if faulty && dice.chance(self.faults.lose) {
            link.complete = false;
            // Overflow: something was lost, and that is all that is known of it.
            if dice.chance(0.5) {
                let at = now + dice.up_to(Duration::from_secs(3));
                self.deliver(at, Input::Watched(session, Event::Dirty), about);
            }
            return Happening::Nothing;
        }
        if faulty && dice.chance(self.faults.disorder) {
            let at = now + dice.up_to(Duration::from_secs(3));
            self.deliver(at, Input::Watched(session, event.clone()), about);
            if dice.chance(0.5) {
                if let Some(link) = &mut self.link {
                    link.complete = false;
                }
                return Happening::Nothing;
            }
        }
        Happening::Input(Input::Watched(session, event), about)
    }

    /// Perhaps something of a watch that is gone arrives after all.
    fn straggler(&mut self, dice: &mut Dice, now: Instant, session: Session) {
        if now >= self.heal_at || dice.chance(0.5) {
            return;
        }
        let state = dice.below(self.source.state_at(now) + 1);
        let event = match &self.source.states[state].value {
            Some(held) => Event::Changed(held.clone()),
            None => Event::Removed,
        };
        let input = match dice.below(4) {
            0 => Input::WatchLost(session, Failure::transient("late")),
            1 => Input::Armed(session),
            _ => Input::Watched(session, event),
        };
        let at = now + dice.up_to(Duration::from_secs(8));
        self.deliver(at, input, About { said_at: now, state });
    }

    fn next_alive(&mut self, dice: &mut Dice, now: Instant, session: Session) {
        if self.liveness < Duration::MAX {
            let least = self.liveness.mul_f64(if now < self.heal_at { 0.2 } else { 0.7 });
            let at = now + dice.between(least, self.liveness.mul_f64(0.8));
            self.schedule(at, Item::Alive(session));
        }
    }

    fn latency(&self, dice: &mut Dice, faulty: bool) -> Duration {
        let slow = faulty && dice.chance(self.faults.slow);
        dice.up_to(if slow { self.timeout.mul_f64(0.7) } else { Duration::from_millis(40) })
    }

    fn link_of(&mut self, session: Session) -> Option<&mut Link> {
        self.link.as_mut().filter(|link| link.session == session)
    }

    fn about(&self, now: Instant) -> About {
        About { said_at: now, state: self.source.state_at(now) }
    }

    /// What the source holds in one of its states.
    pub(super) fn content(&self, state: usize) -> Option<Content> {
        self.source.states[state].content()
    }

    fn deliver(&mut self, at: Instant, input: Input<Held>, about: About) {
        self.schedule(at, Item::Deliver(input, about));
    }

    fn schedule(&mut self, at: Instant, item: Item) {
        if matches!(item, Item::Deliver(..)) && at < self.heal_at + Duration::from_secs(60) {
            self.calm_at = self.calm_at.max(at);
        }
        self.order += 1;
        self.queue.push(Reverse(Scheduled { at, order: self.order, item }));
    }
}

fn crash() -> Failure {
    Failure::new(FailureKind::Crashed, "it trapped")
}
