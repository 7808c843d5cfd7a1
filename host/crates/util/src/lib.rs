//! Algorithms and small types that several crates of the reloader host share: rate limits, backoff, sanitised
//! text, locks, thread pools, units, digests.
//!
//! All crates of the host may import this one, and it imports none of them.
//!
//! ```
//! use reloader_util::{sanitize::sanitize, token_bucket::TokenBucket};
//! use std::time::{Duration, Instant};
//!
//! let now = Instant::now();
//! let mut bucket = TokenBucket::new(2, Duration::from_secs(1), now);
//! assert!(bucket.try_take(now) && bucket.try_take(now));
//! assert!(!bucket.try_take(now));
//! assert!(bucket.try_take(now + Duration::from_secs(1)));
//!
//! assert_eq!(sanitize("two\nlines"), "two\\nlines");
//! ```
//!
//! # Features
//!
//! All are off by default.
//!
//! - `digest`: SHA-256 digests of values.
//! - `threads`: thread pools, and the start of child processes.
//! - `units`: durations and sizes with units, as in a configuration file.

pub mod backoff;
#[cfg(feature = "threads")]
pub mod blocking_pool;
#[cfg(feature = "threads")]
pub mod child_process;
#[cfg(all(feature = "threads", target_os = "linux"))]
mod child_spawning_threads;
#[cfg(feature = "digest")]
pub mod digest;
pub mod log_limit;
#[cfg(all(feature = "threads", unix))]
pub mod open_file_limit;
pub mod panics;
#[cfg(feature = "threads")]
mod piped_streams;
pub mod program_name;
pub mod sanitize;
#[cfg(all(feature = "threads", target_os = "linux"))]
mod spawned_child;
pub mod sync;
#[cfg(feature = "threads")]
pub mod thread_priority_pool;
pub mod token_bucket;
#[cfg(feature = "units")]
pub mod units;
