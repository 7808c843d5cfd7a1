//! Looking for what is somebody else's.

use std::{
    io::Read,
    sync::atomic::{AtomicU32, Ordering},
};
use wasip2::cli::environment::{get_arguments, get_environment, initial_cwd};

pub(crate) fn environment() -> Vec<u8> {
    format!("{:?} {:?} {:?}", get_environment(), get_arguments(), initial_cwd()).into_bytes()
}

pub(crate) fn input() -> Vec<u8> {
    let mut text = Vec::new();
    let read = std::io::stdin().read_to_end(&mut text);
    format!("{read:?} {text:?}").into_bytes()
}

/// Traps in every third call, so that what remembers is a new instance now and then.
pub(crate) fn remember() -> Vec<u8> {
    static SEEN: AtomicU32 = AtomicU32::new(0);
    match SEEN.fetch_add(1, Ordering::Relaxed) {
        2 => core::arch::wasm32::unreachable(),
        seen => format!("seen {seen}").into_bytes(),
    }
}

/// How many bytes are not zero, of all that one instance can get.
#[allow(unsafe_code, reason = "to look at memory that no object lies in")]
pub(crate) fn leftovers() -> Vec<u8> {
    let mut found = 0_usize;
    loop {
        let page = core::arch::wasm32::memory_grow::<0>(16);
        if page == usize::MAX {
            return found.to_string().into_bytes();
        }
        let start = (page << 16) as *mut u8;
        // SAFETY: the pages were added a moment ago, and nobody else knows of them.
        let fresh = unsafe { core::slice::from_raw_parts_mut(start, 16 << 16) };
        found += fresh.iter().filter(|byte| **byte != 0).count();
        // For whoever comes after, if memory were handed on as it is.
        fresh.fill(0xa5);
    }
}
