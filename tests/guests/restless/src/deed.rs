//! What it can be told to do.

/// What to do.
#[guest_sdk::settings]
#[derive(Debug, Clone, Copy)]
pub enum Deed {
    // Egress.
    /// Connects to `to`.
    Connect,
    /// Connects to `to`, and speaks TLS.
    Tls,
    /// Connects in its own way.
    Socket,
    /// Listens.
    Listen,
    /// Sends a datagram.
    Datagram,
    /// Looks up a name, which the server of that name sees.
    Lookup,
    /// Sends a request.
    Request,
    /// Sends a request with a header: `URL NAME=VALUE`.
    Header,
    /// Sends a request whose body does not end.
    Upload,
    /// Requests one origin in many spellings; `to` is its port.
    Spellings,
    /// Makes requests of texts that are too long.
    RequestBombs,
    /// Makes a header that is too long.
    HeaderBomb,
    /// Asks for a file that is not granted, again and again.
    Beg,
    /// Asks for many files that are not granted.
    BegAround,
    /// Asks for a file that is not granted, and says nothing more.
    Sulk,

    // Time.
    /// Computes without end.
    Spin,
    /// Sleeps without end.
    Sleep,
    /// Waits for a file as long as it can.
    WaitForFile,
    /// Waits for a connection as long as it can.
    WaitForBytes,
    /// Calls itself without end.
    Recurse,
    /// Waits without end for what is there already.
    BusyWait,
    /// Calls the host without end.
    BusyCalls,
    /// Reads a file without end.
    BusyRead,
    /// Computes and sleeps in turn, without end.
    Nap,

    // Memory.
    /// Takes memory without end.
    Grow,
    /// Answers with a value that is too large.
    Huge,
    /// Answers with values as large as is allowed, each another one.
    Full,
    /// Answers with a cursor that is larger than any value.
    HugeCursor,
    /// The same with a media type.
    HugeMediaType,
    /// The same with an error.
    HugeFailure,
    /// Requests a URL that is too long.
    HugeRequest,
    /// Reads a file whose name is too long.
    HugePath,
    /// Asks for more random bytes than there is memory.
    Random,
    /// Asks for random bytes without end.
    RandomFlood,
    /// Makes headers without end.
    Headers,
    /// Makes pollables without end.
    Pollables,
    /// Makes sockets without end.
    Sockets,
    /// Connects without end.
    Connections,
    /// Watches a file, again and again.
    Watches,

    // The log.
    /// Says something in the log.
    Log,
    /// Says something at each level.
    LogLevels,
    /// Says more in the log than anybody wants to read.
    LogFlood,
    /// Says something very long.
    LogHuge,
    /// Says something with very many fields.
    LogFields,
    /// Prints to its own standard output and standard error.
    Print,
    /// Prints more than anybody wants to read.
    PrintFlood,

    // Files.
    /// Reads a file.
    Read,
    /// Reads a file in its own way.
    Open,
    /// Lists a folder.
    Folder,
    /// Looks for folders that it was given.
    Preopened,
    /// Writes to a file.
    Write,
    /// Makes a file empty.
    Truncate,
    /// Renames a file.
    Rename,
    /// Gives a file a second name.
    Link,
    /// Removes a file.
    Remove,
    /// Watches a file.
    WatchPath,

    // The protocol.
    /// Says that nothing has changed.
    Unchanged,
    /// Says that there is nothing.
    Removed,
    /// Says what it was told is known.
    Known,
    /// Says that something has changed, without end.
    Dirty,
    /// Says that all is well, without end.
    Alive,
    /// Each answer is another value.
    Distinct,
    /// Each answer is the same value.
    Same,
    /// Answers with strings that are not meant to be shown.
    OddStrings,
    /// Fails with such a string.
    OddFailure,
    /// Finds its settings wrong after a while.
    ConfigLater,
    /// Asks never to be called again.
    NeverAgain,
    /// Panics.
    Panic,
    /// Panics with a message that is too long.
    PanicHugely,
    /// Traps without a word.
    Trap,
    /// Traps in every second call.
    TrapLater,
    /// Ends its process.
    Exit,

    // Isolation.
    /// Looks at its environment.
    Environment,
    /// Reads its standard input.
    Input,
    /// Says how often its memory has seen this.
    Remember,
    /// Looks into memory that it has just been given.
    Leftovers,
    /// Tells its secret as a value.
    Secret,
    /// Tells its secret in an error.
    TellSecret,
    /// Tells its secret in the log.
    TellSecretInLog,
    /// Tells its secret when it panics.
    TellSecretInPanic,
    /// Tells what its own default has become.
    TellDefault,
}
