//! Catalogue of the attacks that the guest can perform.

/// Attack that the guest performs. `to` is the setting with the target of the attack.
#[guest_sdk::settings]
#[derive(Debug, Clone, Copy)]
pub enum Attack {
    // Egress.
    /// Opens a connection to `to`.
    Connect,
    /// Opens a TLS connection to `to`.
    Tls,
    /// Opens a TCP socket of WASI instead of a connection of the host.
    Socket,
    /// Listens on a TCP socket.
    Listen,
    /// Sends a UDP datagram.
    Datagram,
    /// Resolves a name: data exfiltration through DNS queries.
    Lookup,
    /// Sends an HTTP request.
    Request,
    /// Sends a request with a header; `to` is `URL NAME=VALUE`.
    Header,
    /// Sends a request with an endless body.
    EndlessUpload,
    /// Sends requests to one origin in many spellings; `to` is its port.
    Spellings,
    /// Creates requests with an oversized method, scheme, authority and path.
    OversizedRequestParts,
    /// Creates an oversized header field.
    OversizedHeader,
    /// Reads the same denied file 1,000 times.
    RepeatedDenial,
    /// Reads 1,000 different denied files.
    DistinctDenials,
    /// Reads a denied file, then sleeps without end.
    DenialThenSilence,

    // CPU time and call timeouts.
    /// Infinite loop.
    InfiniteLoop,
    /// Infinite sleep.
    Sleep,
    /// Waits for changes of a file without a timeout.
    WaitForFile,
    /// Waits for data on a connection without a timeout.
    WaitForBytes,
    /// Infinite recursion: stack overflow.
    InfiniteRecursion,
    /// Busy waiting: waits on pollables that are ready.
    BusyWait,
    /// Infinite loop of host calls.
    BusyCalls,
    /// Infinite loop of file reads.
    BusyRead,
    /// Infinite loop that sleeps before each epoch ends, to evade the CPU limit.
    ComputeAndSleep,

    // Memory.
    /// Memory growth without end.
    MemoryGrowth,
    /// Returns a value above the size limit.
    OversizedValue,
    /// Returns a different value of the maximum size in each call.
    MaxSizeValues,
    /// Returns a cursor above the size limit.
    OversizedCursor,
    /// Returns a media type above the size limit.
    OversizedMediaType,
    /// Returns an error message above the size limit.
    OversizedFailure,
    /// Requests a URL above the size limit.
    OversizedUrl,
    /// Reads a file with a path above the size limit.
    OversizedPath,
    /// Requests 1 GiB of random bytes in one call.
    OversizedRandom,
    /// Requests random bytes in an infinite loop.
    RandomFlood,
    /// Adds 1,000,000 header fields.
    HeaderFlood,
    /// Exhausts the handle table with pollables.
    PollableExhaustion,
    /// Exhausts the host's file descriptors with sockets.
    SocketExhaustion,
    /// Opens connections without end.
    ConnectionExhaustion,
    /// Opens file watches without end.
    WatchExhaustion,

    // The log.
    /// Log injection: an event with line breaks and control characters.
    Log,
    /// Logs an event at each level.
    LogLevels,
    /// Log flood: 100,000 events.
    LogFlood,
    /// Logs an event with an oversized message and field.
    LogOversized,
    /// Logs an event with 1,000 large fields.
    LogManyFields,
    /// Prints to WASI's standard output and standard error.
    Print,
    /// Output flood: prints 10 MB to standard output.
    PrintFlood,

    // Files.
    /// Reads a file through the host.
    Read,
    /// Reads a file through WASI.
    Open,
    /// Lists a directory through WASI.
    Folder,
    /// Counts the preopened directories.
    Preopened,
    /// Writes a file.
    Write,
    /// Truncates a file.
    Truncate,
    /// Renames a file.
    Rename,
    /// Creates a hard link.
    Link,
    /// Removes a file.
    Remove,
    /// Watches a file.
    WatchPath,

    // The protocol.
    /// Returns `unchanged`.
    Unchanged,
    /// Returns `absent` from a read, or the event `removed` from a watch.
    Removed,
    /// Returns the cursor of the last value, as the host passed it.
    EchoCursor,
    /// Event flood: `dirty` from each call.
    Dirty,
    /// Event flood: `alive` from each call.
    Alive,
    /// Returns a different value from each call.
    DistinctValues,
    /// Returns the same value from each call.
    SameValue,
    /// Returns a value, cursor and media type with control characters.
    ControlCharacters,
    /// Returns an error message with control characters.
    ControlCharactersInFailure,
    /// Returns a configuration error after three successful calls.
    LateConfigFailure,
    /// Returns an error with the maximum retry delay.
    MaxRetryDelay,
    /// Panics.
    Panic,
    /// Panics with an oversized message.
    OversizedPanic,
    /// Traps without a message.
    Trap,
    /// Traps in every second call of an instance.
    TrapEverySecondCall,
    /// Calls `exit(0)` of WASI.
    Exit,

    // Isolation.
    /// Returns its environment, arguments and working directory.
    Environment,
    /// Reads from standard input.
    Input,
    /// Returns the number of calls that a static variable has counted.
    StateAcrossCalls,
    /// Searches newly grown memory for data of other instances.
    UninitializedMemory,
    /// Returns its secret as the value.
    Secret,
    /// Returns its secret in an error message.
    SecretInFailure,
    /// Logs its secret.
    SecretInLog,
    /// Panics with its secret in the message.
    SecretInPanic,
    /// Returns the setting whose schema default is a reference to a secret.
    EchoDefault,
}
