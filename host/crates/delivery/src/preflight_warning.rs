//! Result of a preflight check, which detects problems of a sink or command on this host before it is
//! used.

/// A problem found by a preflight check: the key of the setting, and the reason.
///
/// The finding is a warning and not an error. The configuration may be written for another host, or the
/// missing file or user may be created later.
pub type PreflightWarning = (&'static str, String);
