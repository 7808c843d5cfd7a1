//! The program `host`. All of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    reloader_host_cli::main()
}
