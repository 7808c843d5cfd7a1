//! Clients of the API that read nothing, or that send requests without a pause.

use super::UNAFFECTED_TIMEOUT;
use crate::{api_client, environment::Environment};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Number of clients that read nothing.
const SLOW_READERS: usize = 50;
/// Number of clients that send requests without a pause.
const EAGER_READERS: usize = 16;
/// Timeout of a request, and of a delivery, while all [`EAGER_READERS`] send requests.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) fn slow_readers(environment: &Environment, hold: Duration) -> Result<(), String> {
    let address = environment.api().ok_or("the API does not listen")?;
    let open = |_| api_client::open(address, "/v1/events", "", UNAFFECTED_TIMEOUT);
    let streams: Result<Vec<_>, _> = (0..SLOW_READERS).map(open).collect();
    let streams = streams.map_err(|error| format!("a slow reader cannot connect: {error}"))?;
    let unaffected = environment.probe(UNAFFECTED_TIMEOUT);
    thread::sleep(hold);
    drop(streams);
    unaffected.map(|_| ())
}

pub(crate) fn many_readers(environment: &Environment, hold: Duration) -> Result<(), String> {
    let end = Instant::now() + hold;
    let read = |number: usize| {
        let paths = ["/metrics", "/v1/sources"];
        let mut request = number;
        while Instant::now() < end {
            let path = paths[request % paths.len()];
            environment.get(path, REQUEST_TIMEOUT).map_err(|error| format!("{path}: {error}"))?;
            request += 1;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let readers: Vec<_> =
            (0..EAGER_READERS).map(|number| scope.spawn(move || read(number))).collect();
        let unaffected = environment.probe(REQUEST_TIMEOUT).map(|_| ());
        let results = readers.into_iter().map(|reader| reader.join().expect("no panic"));
        results.fold(unaffected, Result::and)
    })
}
