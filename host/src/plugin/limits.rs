//! How much a plugin may use.

use std::time::Duration;

/// How much a plugin may use, for each of its instances. Whoever goes beyond a limit is stopped; its
/// source keeps its last good value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory, all together, in bytes.
    pub memory: usize,
    /// Elements of its tables.
    pub table_elements: usize,
    /// Time of one call to open, read or arm, waiting included.
    pub call_timeout: Duration,
    /// Computing in one call, waiting not included.
    pub call_cpu: Duration,
    /// A watch answers at least this often.
    pub liveness: Duration,
    /// A value, a file that is read, and all that is handed over in one call, in bytes.
    pub value: usize,
    /// Body of an HTTP response, in bytes. A stream of events is one body.
    pub http_body: usize,
    /// Time of an HTTP request in all, until its body has been read.
    pub http_total: Duration,
    /// Time for a connection: resolving, dialling and TLS.
    pub connect_timeout: Duration,
    /// Connections that are open, and requests that are under way, of a source.
    pub connections: usize,
    /// Open connections, watches and other handles.
    pub handles: usize,
    /// Random bytes asked for in one call.
    pub random: u64,
    /// Log lines in a second; the rest is counted.
    pub log_lines: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            table_elements: 100_000,
            call_timeout: Duration::from_secs(30),
            call_cpu: Duration::from_secs(2),
            liveness: Duration::from_secs(60),
            value: 16 << 20,
            http_body: 1 << 30,
            http_total: Duration::from_secs(3_600),
            connect_timeout: Duration::from_secs(10),
            connections: 32,
            handles: 1024,
            random: 64 << 10,
            log_lines: 100,
        }
    }
}
