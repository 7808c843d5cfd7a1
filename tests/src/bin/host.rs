//! Program `host`, built with the tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    reloader_host_cli::main()
}
