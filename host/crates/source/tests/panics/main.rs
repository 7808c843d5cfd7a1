//! Panics in the code of the embedding program: each is a failure of its call. The source goes on, its receivers stay
//! connected, and the last good value stays.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod provider_panics;
mod reloader_panics;

use reloader_panics::Text;
use reloader_source::hot_reload_compat::WatchEvent;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

/// Timeout of each wait; reached only on failure.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Number of panics that a test waits for before its next step.
const PANICS: u32 = 3;

/// Place in the code of the embedding program at which a test lets that code panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a call of a function of the trait, before the function returns its future.
    Call,
    Future,
    Arm,
    ArmFuture,
    WatchDrop,
    /// `Provider::reader`.
    Reader,
    ReaderDrop,
    Next,
    Validate,
    TimeLimit,
    Store,
    ErrorDisplay,
    OutlivesErrors,
    Compare,
    Clone,
}

/// Code of the embedding program: implements provider, validator, persistence and reloader, and panics at the place
/// that the test chooses.
#[derive(Clone, Default)]
struct Faulty(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    value: &'static str,
    place: Option<Place>,
    panics: u32,
    /// Sends events to the watch that the service opened most recently.
    watch: Option<mpsc::Sender<WatchEvent<Text>>>,
    /// Sends change notifications to the watch that the driver armed most recently.
    signal: Option<mpsc::Sender<()>>,
}

impl Faulty {
    fn set(&self, value: &'static str, place: Option<Place>) {
        let mut state = self.0.lock().unwrap();
        (state.value, state.place) = (value, place);
    }

    fn value(&self) -> &'static str {
        self.0.lock().unwrap().value
    }

    fn is_faulty(&self, place: Place) -> bool {
        self.0.lock().unwrap().place == Some(place)
    }

    /// Panics if the test has chosen this place.
    fn reach(&self, place: Place) {
        if self.is_faulty(place) {
            self.0.lock().unwrap().panics += 1;
            panic!("at {place:?}");
        }
    }

    /// Waits until the code has panicked this number of times since the last call of this function.
    async fn panicked(&self, panics: u32) {
        let enough = async {
            while self.0.lock().unwrap().panics < panics {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(TIMEOUT, enough).await.expect("the code panics");
        self.0.lock().unwrap().panics = 0;
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

/// Calls a function when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
