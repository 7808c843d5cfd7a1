//! JSON types of the HTTP API and of the control socket. The server serialises them and the client deserialises
//! them.
//!
//! The server and the client share only this crate, so neither of them depends on the other.
//!
//! ```
//! use reloader_api_types::Problem;
//!
//! let json = r#"{"type": "about:blank", "title": "Not Found", "status": 404, "detail": "unknown source `a`"}"#;
//! let problem: Problem = serde_json::from_str(json)?;
//! assert_eq!(problem.status, 404);
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Features
//!
//! - `openapi`: implements `utoipa::ToSchema` for each type. The doc comments become the descriptions in the
//!   OpenAPI document. Off by default.

mod command_result;
mod diff;
mod event;
mod history;
mod problem;
mod source_status;

pub use command_result::CommandResult;
pub use diff::{Diff, DiffLine};
pub use event::Event;
pub use history::{History, HistoryEntry, RejectedValue};
pub use problem::Problem;
pub use source_status::{
    DeniedAccess, GroupStatus, ListedSource, SinkReport, SourceCounters, SourceDetail,
    SourceStatus, Sources,
};
