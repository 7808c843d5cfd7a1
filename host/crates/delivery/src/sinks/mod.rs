//! The sinks: one module for each type of sink, and the modules that these share:
//!
//! | module | used by |
//! |---|---|
//! | `sink_file`, `atomic_write`, `new_content_check_command`, `file_attributes`, `file_preflight`, `file_settings`, `path_resolution`, `temporary_file` | sinks `file` and `template` |
//! | `event_json` | sinks `stdout`, `exec` and `webhook` |
//! | modules that begin with `template_` | sink `template` |

pub(crate) mod exec;
pub(crate) mod file;
pub(crate) mod signal;
mod sink_file;
pub(crate) mod stdout;
pub(crate) mod template;
pub(crate) mod webhook;

mod atomic_write;
mod event_json;
mod file_attributes;
mod file_preflight;
pub(crate) mod file_settings;
mod new_content_check_command;
mod path_resolution;
mod template_conversion_filters;
mod template_engine;
mod template_file;
mod template_includes;
mod template_limits;
mod template_rendering;
pub(crate) mod template_variables;
mod temporary_file;
