//! Where values go: a worker for each sink, which always takes the newest state.

mod stdout;

pub use stdout::{Format, Stdout};
