//! `cargo xtask fuzz`: runs the fuzz targets with the stable compiler, without cargo-fuzz.
//!
//! Like cargo-fuzz, this task builds the targets with libFuzzer and coverage instrumentation. It uses no
//! sanitizers, because they require a nightly compiler and the fuzzed code has hardly any unsafe
//! code. New corpus entries and findings are saved in the target directory; `fuzz/corpus` has the
//! seed inputs.

use crate::run_program::{Tool, cargo, root, target_directory};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Fuzz target; by default all targets, one after the other
    target: Option<String>,
    /// Run time of each target, in seconds
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Run each target for one minute
    #[arg(long, conflicts_with = "seconds")]
    smoke: bool,
    /// Run the corpus of each target once, without generating inputs; the result is deterministic
    #[arg(long, conflicts_with_all = ["seconds", "smoke"])]
    replay: bool,
    /// Run this input once, with a backtrace if it fails
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
}

/// Compiler flags for coverage instrumentation, as cargo-fuzz sets them.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg",
    "fuzzing",
];

/// Limits of libFuzzer: memory in MiB, seconds for one input (exceeding either is a finding), and
/// the maximum length of an input in bytes.
const LIBFUZZER_LIMITS: [&str; 3] = ["-rss_limit_mb=512", "-timeout=5", "-max_len=16384"];

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let targets = targets()?;
    let chosen = match &arguments.target {
        None => targets,
        Some(name) if targets.contains(name) => vec![name.clone()],
        Some(name) => bail!("unknown fuzz target `{name}`; available: {}", targets.join(", ")),
    };
    let fuzzer = Fuzzer::build()?;
    if let (Some(input), [target]) = (&arguments.input, chosen.as_slice()) {
        let input = input.canonicalize().with_context(|| format!("cannot read {input:?}"))?;
        return fuzzer
            .program(target)
            .args(LIBFUZZER_LIMITS)
            .arg(input)
            .env("RUST_BACKTRACE", "1")
            .run();
    }
    let end = match arguments {
        Arguments { replay: true, .. } => "-runs=0".to_owned(),
        Arguments { smoke: true, .. } => "-max_total_time=60".to_owned(),
        Arguments { seconds, .. } => format!("-max_total_time={seconds}"),
    };
    let mut found = 0;
    for target in &chosen {
        found += usize::from(!fuzzer.fuzz(target, &end)?);
    }
    if found > 0 {
        bail!("{found} of {} fuzz targets failed", chosen.len());
    }
    Ok(())
}

/// Returns the names of the fuzz targets, sorted.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {folder:?}"))? {
        names.extend(entry?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Runner of the fuzz targets, which are built already.
struct Fuzzer {
    /// Directory for binaries, corpora, findings and logs.
    folder: PathBuf,
    programs: PathBuf,
}

impl Fuzzer {
    fn build() -> Result<Self> {
        let folder = target_directory()?.join("fuzz");
        let triple = host_triple()?;
        // With an explicit `--target`, cargo does not instrument build scripts and procedural
        // macros.
        cargo("fuzz")
            .args(["build", "--release", "--locked", "--quiet", "--bins", "--target", &triple])
            .arg("--target-dir")
            .arg(&folder)
            .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
            .run()
            .context("libFuzzer needs a C++ compiler (`apt-get install g++`)")?;
        let programs = folder.join(triple).join("release");
        Ok(Self { folder, programs })
    }

    fn program(&self, target: &str) -> Tool {
        Tool::new(self.programs.join(target))
    }

    /// Runs a target until the limit in `end`, an argument of libFuzzer. Returns `false` if the
    /// target failed.
    fn fuzz(&self, target: &str, end: &str) -> Result<bool> {
        let [corpus, findings] = ["corpus", "findings"].map(|it| self.folder.join(it).join(target));
        for folder in [&corpus, &findings] {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {folder:?}"))?;
        }
        let log = self.folder.join(format!("{target}.log"));
        let file = fs::File::create(&log).with_context(|| format!("cannot write {log:?}"))?;
        let fuzz = root().join("fuzz");
        let dictionary = fuzz.join("dictionaries").join(target).with_extension("dict");
        let status = Command::new(self.programs.join(target))
            .arg(&corpus)
            .arg(fuzz.join("corpus").join(target))
            .args(LIBFUZZER_LIMITS)
            .arg(end)
            .arg(format!("-artifact_prefix={}/", findings.display()))
            .args(dictionary.exists().then(|| format!("-dict={}", dictionary.display())))
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::null())
            .stderr(file)
            .status()
            .with_context(|| format!("cannot start the target {target}"))?;
        // The log may contain an input that is not UTF-8.
        let log_text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        if status.success() {
            println!("{target:<18} {}", summary(&log_text));
            return Ok(true);
        }
        println!("{target:<18} failed: {}", reason(&log_text));
        match finding(&log_text) {
            Some(input) => {
                println!("  input: {input}\n  reproduce: cargo xtask fuzz {target} --input {input}")
            }
            None => println!("  exited with {status} without saving an input"),
        }
        println!("  log: {}", log.display());
        Ok(false)
    }
}

/// Returns the compiler's host triple.
fn host_triple() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").current_dir(root()).output();
    let output = output.context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(Into::into).context("`rustc -vV` does not print the host triple")
}

/// Summarises the last progress line of the log: `#4213 DONE cov: 712 ft: 3100 corp: 310/9Kb …`.
fn summary(log_text: &str) -> String {
    let is_progress = |line: &&str| line.starts_with('#') && line.contains("cov: ");
    let last = log_text.lines().rfind(is_progress).unwrap_or_default();
    let words: Vec<_> = last.split_whitespace().collect();
    let after = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).copied()
    };
    let executions = last.trim_start_matches('#').split_whitespace().next().unwrap_or("0");
    format!(
        "{executions} executions, {} coverage points, corpus {}",
        after("cov:").unwrap_or("no"),
        after("corp:").unwrap_or("empty"),
    )
}

/// Returns the panic message, or libFuzzer's error.
fn reason(log_text: &str) -> &str {
    let mut lines = log_text.lines().skip_while(|line| !line.contains("panicked at "));
    let own = || log_text.lines().find(|line| line.contains("ERROR: libFuzzer"));
    lines.nth(1).or_else(own).unwrap_or("no message in the log")
}

/// Returns the path of the failing input that libFuzzer saved.
fn finding(log_text: &str) -> Option<&str> {
    let line = log_text.lines().find(|line| line.contains("Test unit written to "))?;
    line.rsplit_once(" written to ").map(|(_, path)| path).filter(|path| Path::new(path).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: &str = "#12\tNEW    cov: 30 ft: 31 corp: 2/4b\n\
        thread '<unnamed>' (1) panicked at src/kvs_plugin.rs:30:5:\nthe result depends on the read size\n\
        ==1== ERROR: libFuzzer: deadly signal\n\
        artifact_prefix='f/'; Test unit written to /dev/null\n";

    #[test]
    fn summary_of_run_is_one_line() {
        let log_text = "#2\tINITED cov: 1 ft: 1 corp: 1/1b\n#4213\tDONE   cov: 712 ft: 3100 corp: 310/9Kb lim: 5\n\
            ###### Recommended dictionary. ######\nDone\n";
        assert_eq!(summary(log_text), "4213 executions, 712 coverage points, corpus 310/9Kb");
    }

    #[test]
    fn finding_has_reason_and_input() {
        assert_eq!(reason(FOUND), "the result depends on the read size");
        assert_eq!(finding(FOUND), Some("/dev/null"));
        assert_eq!(
            reason("==1== ERROR: libFuzzer: timeout after 5 seconds\n"),
            "==1== ERROR: libFuzzer: timeout after 5 seconds"
        );
    }
}
