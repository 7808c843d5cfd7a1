//! The same programs, compiled against `hot_reload` 0.3.6 and against this crate, do the same.
//!
//! A program names the crate `hot_reload`. Below, that is the one or the other; nothing else differs,
//! as when a `Cargo.toml` says `hot_reload = { package = "reloader-host", default-features = false }`.
#![cfg(feature = "file-reloader")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![allow(clippy::duplicate_mod, reason = "which is the point")]

#[path = "."]
mod with_seed {
    use seed as hot_reload;
    #[path = "programs/mod.rs"]
    mod programs;
}

#[path = "."]
mod with_ours {
    use reloader_host as hot_reload;
    #[path = "programs/mod.rs"]
    mod programs;
}
