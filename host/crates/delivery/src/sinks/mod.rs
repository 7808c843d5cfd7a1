//! The sinks: one module for each type of sink, and the modules that these share:
//!
//! | module | used by |
//! |---|---|
//! | `atomic_write`, `file_attributes`, `file_preflight`, `file_settings`, `path_resolution`, `temporary_file` | sinks `file` and `template` |
//! | `event_json` | sinks `stdout`, `exec` and `webhook` |
//! | `template_engine`, `template_variables` | sink `template` |

pub(crate) mod exec;
pub(crate) mod file;
pub(crate) mod signal;
pub(crate) mod stdout;
pub(crate) mod template;
pub(crate) mod webhook;

mod atomic_write;
mod event_json;
mod file_attributes;
mod file_preflight;
pub(crate) mod file_settings;
mod path_resolution;
mod template_engine;
mod template_file_watch;
pub(crate) mod template_variables;
mod temporary_file;
