//! The documents: their links resolve, their examples run, and the reference matches the program.
//!
//! | block | is |
//! |---|---|
//! | ` ```console ` | run, with its output compared ([`run_console_blocks`]) |
//! | ` ```toml `, ` ```rust `, … with a file name in a comment on the first line | written to this file before the next commands |
//! | ` ```toml ` with tables of a configuration | validated by `host check` |
//! | ` ```sh ` | not run: the commands contain names of the reader's environment; `host` commands are parsed |
//! | ` ```rust ` in `docs/embed` | compiled as a doc-test of the package `e2e` |
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

mod command_syntax;
mod config_examples;
mod expected_output;
mod generate_reference;
mod guides;
mod links;
mod markdown;
mod run_console_blocks;
