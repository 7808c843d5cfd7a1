//! Connection limit of a listener: each open connection holds a place; at the limit, idle connections are evicted.
//!
//! A connection is idle while it waits for its first or its next request. At the connection limit, a new connection
//! evicts an idle one, so that silent clients cannot occupy all places. Connections without any request are evicted
//! first, and of these the one that has been idle for longest. If no connection is idle, the new connection gets a
//! reserved place, on which only short requests are answered.

use crate::connection_limits_from_open_files::PlaceLimits;
use reloader_util::sync::Mutex;
use std::{
    collections::BTreeMap,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Notify, time::timeout};

/// Idle time after which a connection may be evicted. The host reads an arrived request in less time, so it does not
/// evict a connection with an unread request.
const MIN_IDLE_TIME: Duration = Duration::from_millis(100);

/// Kind of place that a connection holds. It decides which requests the connection may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlaceKind {
    /// Place up to the connection limit, for all requests.
    Regular,
    /// Place above the connection limit, for short requests only.
    Reserved,
}

/// Places of one listener. Each open connection holds one of them.
pub(crate) struct Places {
    state: Mutex<State>,
    freed: Notify,
}

struct State {
    regular: Group,
    reserved: Group,
    /// Number of evicted connections that are not closed yet.
    closing: usize,
    max_closing: usize,
    last_number: u64,
}

/// Places of one kind: their limit, and the connections that hold them.
struct Group {
    limit: usize,
    /// Number of open connections, without evicted ones.
    open: usize,
    /// Idle connections before their first request, in the order in which they became idle.
    silent: BTreeMap<u64, Idle>,
    /// Idle connections after a response, in the order in which they became idle.
    kept_alive: BTreeMap<u64, Idle>,
}

struct Idle {
    since: Instant,
    eviction: Arc<Eviction>,
}

/// Signal to an idle connection to close itself and free its place.
#[derive(Default)]
struct Eviction {
    is_requested: AtomicBool,
    requested: Notify,
}

/// Place of one connection. Dropping the last clone frees the place.
#[derive(Clone)]
pub(crate) struct Place(Arc<OccupiedPlace>);

struct OccupiedPlace {
    places: Arc<Places>,
    kind: PlaceKind,
    eviction: Arc<Eviction>,
    activity: Mutex<Activity>,
}

struct Activity {
    /// Number of requests whose responses are not written yet.
    active_requests: usize,
    has_served: bool,
    /// Key in [`Group::silent`] or [`Group::kept_alive`] while the connection is idle; `None` while it is active.
    idle_number: Option<u64>,
}

impl Places {
    /// Creates the free places of a listener, with these limits.
    pub(crate) fn new(limits: PlaceLimits) -> Arc<Self> {
        let group =
            |limit| Group { limit, open: 0, silent: BTreeMap::new(), kept_alive: BTreeMap::new() };
        let (regular, reserved) = (group(limits.regular), group(limits.reserved));
        let state =
            State { regular, reserved, closing: 0, max_closing: limits.closing, last_number: 0 };
        Arc::new(Self { state: Mutex::new(state), freed: Notify::new() })
    }

    /// Waits for a place for a new connection.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.try_acquire(Instant::now()) {
                return place;
            }
            // The timeout lets the loop notice a connection that has become idle, which does not notify `freed`.
            let _ = timeout(MIN_IDLE_TIME, self.freed.notified()).await;
        }
    }

    fn try_acquire(self: &Arc<Self>, now: Instant) -> Option<Place> {
        let mut state = self.state.lock();
        let may_evict = state.closing < state.max_closing;
        let mut kind = None;
        for candidate in [PlaceKind::Regular, PlaceKind::Reserved] {
            let group = state.group(candidate);
            if group.open < group.limit {
                group.open += 1;
                kind = Some(candidate);
                break;
            }
            if may_evict && group.evict_longest_idle(now) {
                state.closing += 1;
                kind = Some(candidate);
                break;
            }
        }
        let kind = kind?;
        let eviction = Arc::<Eviction>::default();
        let number = state.add_idle(kind, false, &eviction, now);
        drop(state);
        let activity =
            Activity { active_requests: 0, has_served: false, idle_number: Some(number) };
        let (places, activity) = (Arc::clone(self), Mutex::new(activity));
        Some(Place(Arc::new(OccupiedPlace { places, kind, eviction, activity })))
    }
}

impl State {
    fn group(&mut self, kind: PlaceKind) -> &mut Group {
        match kind {
            PlaceKind::Regular => &mut self.regular,
            PlaceKind::Reserved => &mut self.reserved,
        }
    }

    fn add_idle(
        &mut self,
        kind: PlaceKind,
        has_served: bool,
        eviction: &Arc<Eviction>,
        since: Instant,
    ) -> u64 {
        self.last_number += 1;
        let number = self.last_number;
        let idle = Idle { since, eviction: Arc::clone(eviction) };
        self.group(kind).idle(has_served).insert(number, idle);
        number
    }
}

impl Group {
    fn idle(&mut self, has_served: bool) -> &mut BTreeMap<u64, Idle> {
        if has_served { &mut self.kept_alive } else { &mut self.silent }
    }

    /// Evicts the connection that has been idle for longest, preferably one before its first request. Returns `false`
    /// if no connection can be evicted. The caller gives the place of the evicted connection to the new connection.
    fn evict_longest_idle(&mut self, now: Instant) -> bool {
        for has_served in [false, true] {
            let idle = self.idle(has_served);
            if let Some(longest) = idle.first_entry()
                && now.saturating_duration_since(longest.get().since) >= MIN_IDLE_TIME
            {
                let eviction = longest.remove().eviction;
                eviction.is_requested.store(true, Relaxed);
                eviction.requested.notify_one();
                return true;
            }
        }
        false
    }
}

impl Place {
    /// Returns `true` if no regular place is free.
    pub(crate) fn is_at_limit(&self) -> bool {
        let state = self.0.places.state.lock();
        state.regular.open >= state.regular.limit
    }

    /// Returns the kind of the place.
    pub(crate) fn kind(&self) -> PlaceKind {
        self.0.kind
    }

    /// Returns `true` while the connection waits for a request.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.0.activity.lock().idle_number.is_some()
    }

    /// Waits until the connection must be closed, since a new connection has got its place.
    pub(crate) async fn evicted(&self) {
        while !self.0.eviction.is_requested.load(Relaxed) {
            self.0.eviction.requested.notified().await;
        }
    }

    /// Marks the connection as active until the guard is dropped.
    pub(crate) fn begin_request(&self) -> ActiveRequest {
        let mut activity = self.0.activity.lock();
        activity.active_requests += 1;
        if let Some(number) = activity.idle_number.take() {
            let has_served = mem::replace(&mut activity.has_served, true);
            self.0.places.state.lock().group(self.0.kind).idle(has_served).remove(&number);
        }
        ActiveRequest(self.clone())
    }
}

/// Guard of a request whose response is not written yet.
pub(crate) struct ActiveRequest(Place);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let OccupiedPlace { places, kind, eviction, activity } = &*self.0.0;
        let mut activity = activity.lock();
        activity.active_requests -= 1;
        if activity.active_requests == 0 {
            let mut state = places.state.lock();
            // An evicted connection does not become idle again: its place belongs to another connection.
            if eviction.is_requested.load(Relaxed) {
                return;
            }
            activity.idle_number = Some(state.add_idle(*kind, true, eviction, Instant::now()));
        }
    }
}

impl Drop for OccupiedPlace {
    fn drop(&mut self) {
        let activity = self.activity.lock();
        let mut state = self.places.state.lock();
        let is_evicted = self.eviction.is_requested.load(Relaxed);
        let group = state.group(self.kind);
        if let Some(number) = activity.idle_number {
            group.idle(activity.has_served).remove(&number);
        }
        if is_evicted {
            state.closing -= 1;
        } else {
            group.open -= 1;
        }
        drop(state);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVED_PLACES: usize = PlaceLimits::MAX.reserved;
    const MAX_CLOSING: usize = PlaceLimits::MAX.closing;

    fn is_evicted(place: &Place) -> bool {
        place.0.eviction.is_requested.load(Relaxed)
    }

    /// Places, and a clock that advances by the minimum idle time with each new connection.
    struct Test(Arc<Places>, Instant);

    impl Test {
        fn new(limit: usize) -> Self {
            let limits = PlaceLimits { regular: limit, ..PlaceLimits::MAX };
            Self(Places::new(limits), Instant::now())
        }

        fn try_acquire(&mut self) -> Option<Place> {
            // One second more than the idle time, since the end of a request is recorded with the real time.
            self.1 += MIN_IDLE_TIME + Duration::from_secs(1);
            self.0.try_acquire(self.1)
        }

        fn acquire(&mut self) -> Place {
            self.try_acquire().expect("there is a place")
        }
    }

    #[test]
    fn longest_silent_connection_is_evicted_first() {
        let mut test = Test::new(3);
        let [kept_alive, silent, other] = [(); 3].map(|()| test.acquire());
        drop(kept_alive.begin_request());
        let new = test.acquire();
        assert_eq!(new.kind(), PlaceKind::Regular);
        assert!(is_evicted(&silent) && !is_evicted(&other) && !is_evicted(&kept_alive));
        let _active = [&new, &other].map(Place::begin_request);
        assert_eq!(test.acquire().kind(), PlaceKind::Regular);
        assert!(is_evicted(&kept_alive));
    }

    #[test]
    fn active_connections_keep_their_places() {
        let mut test = Test::new(2);
        let all = [(); 2].map(|()| test.acquire());
        let active = all.each_ref().map(Place::begin_request);
        let reserved: Vec<_> = (0..RESERVED_PLACES).map(|_| test.acquire()).collect();
        assert!(reserved.iter().all(|place| place.kind() == PlaceKind::Reserved));
        let active_reserved: Vec<_> = reserved.iter().map(Place::begin_request).collect();
        assert!(test.try_acquire().is_none());
        drop(active_reserved);
        assert_eq!(test.acquire().kind(), PlaceKind::Reserved);
        assert!(is_evicted(&reserved[0]));
        drop(active);
        drop(all);
        assert_eq!(test.acquire().kind(), PlaceKind::Regular);
    }

    #[test]
    fn new_connection_is_not_evicted() {
        let mut test = Test::new(1);
        let first = test.acquire();
        let second = test.0.try_acquire(test.1).expect("there are reserved places");
        assert_eq!(second.kind(), PlaceKind::Reserved);
        assert!(!is_evicted(&first));
    }

    #[test]
    fn evicted_connections_that_are_open_are_bounded() {
        let mut test = Test::new(MAX_CLOSING);
        let old: Vec<_> = (0..MAX_CLOSING).map(|_| test.acquire()).collect();
        let new: Vec<_> = (0..MAX_CLOSING).map(|_| test.acquire()).collect();
        assert!(old.iter().all(is_evicted));
        assert_eq!(test.acquire().kind(), PlaceKind::Reserved);
        drop(old);
        assert_eq!(test.acquire().kind(), PlaceKind::Regular);
        assert!(is_evicted(&new[0]));
    }

    /// A request arrives on a connection that is evicted but not closed yet. The connection does not become idle again,
    /// and is not evicted a second time.
    #[test]
    fn connection_is_evicted_once() {
        let mut test = Test::new(1);
        let first = test.acquire();
        let second = test.acquire();
        assert!(is_evicted(&first));
        drop(first.begin_request());
        let _active = second.begin_request();
        assert_eq!(test.acquire().kind(), PlaceKind::Reserved, "none can be evicted");
        assert_eq!(test.0.state.lock().closing, 1);
        drop(first);
        assert_eq!(test.0.state.lock().closing, 0);
    }

    #[tokio::test]
    async fn freed_place_is_given_to_waiting_connection() {
        let mut test = Test::new(1);
        let all: Vec<_> = (0..=RESERVED_PLACES)
            .map(|_| {
                let place = test.acquire();
                let active = place.begin_request();
                (place, active)
            })
            .collect();
        let mut waiting = Box::pin(test.0.acquire());
        assert!(timeout(Duration::ZERO, &mut waiting).await.is_err());
        drop(all);
        assert_eq!(waiting.await.kind(), PlaceKind::Regular);
    }
}
