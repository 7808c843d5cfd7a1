//! `cargo xtask reference`: writes the reference documents that are generated from the program.

use crate::run_program::{add_wasm_target, cargo};
use anyhow::Result;

/// Writes the documents; with `check`, fails if they differ from the program. The generator is a test, because it runs
/// the program: `tests/tests/documents/generate_reference/`.
pub(crate) fn run(check: bool) -> Result<()> {
    add_wasm_target()?;
    let test = ["test", "--quiet", "--locked", "-p", "e2e", "--test", "documents"];
    let command = cargo(".").args(test).arg("reference_matches_the_program");
    if check { command } else { command.env("UPDATE_REFERENCE", "1") }.run()
}
