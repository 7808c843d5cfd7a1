//! The program `host`, built together with the tests, so that they start what they were built with.

use std::process::ExitCode;

fn main() -> ExitCode {
    reloader_host_cli::main()
}
