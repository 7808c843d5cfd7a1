//! Result of a preflight check. The check detects problems of a sink or command on this host before the sink or
//! command runs.

/// A problem found by a preflight check: the key of the setting, and the reason.
///
/// The host warns of the problem and does not reject the configuration, because the configuration may be
/// written for another host, or the missing file or user may be created later.
pub type PreflightWarning = (&'static str, String);
