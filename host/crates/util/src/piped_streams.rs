//! Choice of the streams of a child process that are pipes.

/// Streams of a child that are connected to this process by pipes. Without a pipe, standard input is empty if there is a
/// pipe for the output; otherwise, the child inherits its streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pipes {
    /// Standard input.
    pub stdin: bool,
    /// Standard output and standard error.
    pub output: bool,
}
