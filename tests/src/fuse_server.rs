//! Server of a FUSE file system that answers until the first read of a file. Each name is a regular file.
//!
//! Numbers and structures are those of `linux/fuse.h`, version 7.31 of the protocol.

use std::{
    fs::File,
    io::{Read as _, Write as _},
};

/// Size of the buffer for a request: the kernel refuses a smaller one.
const REQUEST_BYTES: usize = 1 << 20;
/// Size of the header of a request (`fuse_in_header`).
const HEADER_BYTES: usize = 40;
/// Node ID of the root directory. All other nodes are files.
const ROOT: u64 = 1;
/// Seconds for which the kernel may cache an answer.
const VALID_SECONDS: u64 = 1;
const ENOSYS: i32 = 38;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const INIT: u32 = 26;
const BATCH_FORGET: u32 = 42;

/// Answers requests until a file is read, or until the file system is unmounted.
pub(crate) fn answer_until_read(mut connection: File) {
    let mut request = vec![0; REQUEST_BYTES];
    while let Ok(length) = connection.read(&mut request) {
        if length < HEADER_BYTES {
            return;
        }
        let number = |at: usize| u64::from_le_bytes(request[at..at + 8].try_into().unwrap());
        let operation = u32::from_le_bytes(request[4..8].try_into().unwrap());
        let (unique, node) = (number(8), number(16));
        let answer = match operation {
            READ => return,
            FORGET | BATCH_FORGET => continue,
            INIT => Ok(init()),
            LOOKUP => Ok(entry()),
            GETATTR => Ok(attributes_answer(node)),
            OPEN => Ok(vec![0; 16]),
            _ => Err(ENOSYS),
        };
        let (error, body) = answer.map_or_else(|error| (-error, Vec::new()), |body| (0, body));
        let length = u32::try_from(16 + body.len()).unwrap();
        let mut message = Vec::new();
        message.extend(length.to_le_bytes());
        message.extend(error.to_le_bytes());
        message.extend(unique.to_le_bytes());
        message.extend(body);
        // The kernel has withdrawn a request whose caller was killed.
        let _ = connection.write_all(&message);
    }
}

/// `fuse_init_out`.
fn init() -> Vec<u8> {
    let mut out = Vec::new();
    // Version, readahead, flags.
    [7_u32, 31, 0, 0].iter().for_each(|number| out.extend(number.to_le_bytes()));
    // Requests in the background, and the number that counts as congestion.
    [16_u16, 12].iter().for_each(|number| out.extend(number.to_le_bytes()));
    // Largest write, and the granularity of times in nanoseconds.
    [1_u32 << 16, 1].iter().for_each(|number| out.extend(number.to_le_bytes()));
    out.resize(64, 0);
    out
}

/// `fuse_entry_out` of a file.
fn entry() -> Vec<u8> {
    const FILE: u64 = 2;
    let mut out = Vec::new();
    [FILE, 0, VALID_SECONDS, VALID_SECONDS, 0]
        .iter()
        .for_each(|number| out.extend(number.to_le_bytes()));
    out.extend(attributes(FILE));
    out
}

/// `fuse_attr_out`.
fn attributes_answer(node: u64) -> Vec<u8> {
    let mut out = Vec::new();
    [VALID_SECONDS, 0].iter().for_each(|number| out.extend(number.to_le_bytes()));
    out.extend(attributes(node));
    out
}

/// `fuse_attr`.
fn attributes(node: u64) -> Vec<u8> {
    let mode: u32 = if node == ROOT { 0o040_755 } else { 0o100_644 };
    let mut out = Vec::new();
    // Node, size, blocks, and three times in seconds.
    [node, 1, 1, 0, 0, 0].iter().for_each(|number| out.extend(number.to_le_bytes()));
    // Nanoseconds of the times, mode, links, owner, group, device, block size, flags.
    [0_u32, 0, 0, mode, 1, 0, 0, 0, 4096, 0]
        .iter()
        .for_each(|number| out.extend(number.to_le_bytes()));
    out
}
