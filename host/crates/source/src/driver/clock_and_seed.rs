//! Clock and random seed of the engine, which reads neither by itself.

use std::{
    hash::{BuildHasher, RandomState},
    time::Instant,
};

/// Returns a random seed for the jitter of a source. The process ID is unsuitable: in containers it is often the same.
pub(crate) fn seed() -> u64 {
    RandomState::new().hash_one(())
}

/// Returns the time of tokio's clock, which tests can pause.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ() {
        assert_ne!(seed(), seed());
    }
}
