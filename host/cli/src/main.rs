//! Entry point of the program `host`. The implementation is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    reloader_host_cli::main()
}
