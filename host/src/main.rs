//! The program `host`. All of it is in the library, under `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    reloader_host::cli::main()
}
