//! The program `host`, for the tests: the same one line as its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    reloader_host_cli::main()
}
