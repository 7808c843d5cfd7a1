//! `cargo xtask demo`: runs the host with the file plugin and changes the file.

use crate::run_program::{add_wasm_target, cargo, target_directory};
use anyhow::{Context, Result};
use std::{
    env, fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio, id},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Timeout for the next line on the host's stdout.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn run(release: bool) -> Result<()> {
    add_wasm_target()?;
    println!("building the host and its plugins (a few minutes the first time) …");
    let profile = if release { "release" } else { "dev" };
    // Builds with the features of the whole workspace, so that `cargo xtask test` reuses the build.
    cargo(".")
        .args(["build", "--workspace", "--bin", "host", "--locked", "--profile", profile])
        .run()?;
    let host = target_directory()?.join(if release { "release" } else { "debug" }).join("host");

    let directory = env::temp_dir().join(format!("reloader-demo-{}", id()));
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create directory {}", directory.display()))?;
    let file = directory.join("app.toml");
    fs::write(&file, "greeting = \"hello\"\n")?;

    println!("\n$ host run --plugin file --set path=app.toml --name app");
    let mut child = Command::new(&host)
        .args(["run", "--plugin", "file", "--set", "path=app.toml", "--name", "app"])
        .args(["--log-level", "warn"])
        .current_dir(&directory)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", host.display()))?;
    let stdout = child.stdout.take().context("the host has no output")?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send((Instant::now(), line));
        }
    });
    let next = || lines.recv_timeout(WAIT_TIMEOUT).context("the host printed nothing");

    let shown = (|| -> Result<()> {
        println!("{}", next()?.1);
        for greeting in ["good morning", "good evening", "good night"] {
            thread::sleep(Duration::from_millis(700));
            println!(
                "\n$ echo 'greeting = \"{greeting}\"' > app.toml.new; mv app.toml.new app.toml"
            );
            let new = directory.join("app.toml.new");
            fs::write(&new, format!("greeting = \"{greeting}\"\n"))?;
            let renamed_at = Instant::now();
            fs::rename(&new, &file)?;
            let (printed_at, line) = next()?;
            println!("{line}");
            let took = printed_at.duration_since(renamed_at);
            println!("# printed {:.2} ms after the file was renamed", took.as_secs_f64() * 1e3);
        }
        Ok(())
    })();
    child.kill()?;
    child.wait()?;
    fs::remove_dir_all(&directory)?;
    shown?;
    println!(
        "\nThe file was read by a WebAssembly component that could reach nothing but this file.\n\
         Next: {} inspect file",
        host.display()
    );
    Ok(())
}
