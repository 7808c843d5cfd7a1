//! API compatibility: the same programs are compiled and run against `hot_reload` 0.3.6 (the dependency `seed`) and
//! against this crate.
//!
//! The programs use a crate named `hot_reload`. Each of the two modules below binds that name to one of the crates. The
//! manifest of a migrated program does so with
//! `hot_reload = { package = "reloader-host", default-features = false }`.
#![cfg(feature = "file-reloader")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![allow(clippy::duplicate_mod, reason = "the same programs are compiled twice")]

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
