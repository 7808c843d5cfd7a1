//! Attacks on the isolation between instances and from the host's environment.

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

/// Counts its calls in a static variable. Traps in every third call, which replaces the instance.
pub(crate) fn state_across_calls() -> Vec<u8> {
    static SEEN: AtomicU32 = AtomicU32::new(0);
    match SEEN.fetch_add(1, Ordering::Relaxed) {
        2 => core::arch::wasm32::unreachable(),
        seen => format!("seen {seen}").into_bytes(),
    }
}

/// Grows the memory to its limit and returns the number of non-zero bytes in it.
#[allow(unsafe_code, reason = "reads memory that belongs to no object")]
pub(crate) fn uninitialized_memory() -> Vec<u8> {
    let mut found = 0_usize;
    loop {
        let page = core::arch::wasm32::memory_grow::<0>(16);
        if page == usize::MAX {
            return found.to_string().into_bytes();
        }
        let start = (page << 16) as *mut u8;
        // SAFETY: `memory_grow` has just added these pages, so no object uses them.
        let fresh = unsafe { core::slice::from_raw_parts_mut(start, 16 << 16) };
        found += fresh.iter().filter(|byte| **byte != 0).count();
        // A later instance would find this pattern if the host reused memory without clearing it.
        fresh.fill(0xa5);
    }
}
