//! Feeds what reads bytes from outside with bytes that nobody thought of, with the stable compiler and
//! nothing to install.
//!
//! This is what cargo-fuzz does (libFuzzer, with the compiler's marks for coverage), without the
//! sanitizers, which only nightly has: there is hardly any unsafe code for them to look at. What is
//! found while fuzzing is kept in the target directory; `fuzz/corpus` has what it starts from.

use crate::tools::{Tool, cargo, root, target_directory};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What `cargo xtask fuzz` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// One of the targets; all of them, one after the other, when left out
    target: Option<String>,
    /// For how many seconds each
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// For a minute each
    #[arg(long, conflicts_with = "seconds")]
    smoke: bool,
    /// Feeds only what each starts from, once, and invents nothing: what guards a change must give the
    /// same answer when it is asked again
    #[arg(long, conflicts_with_all = ["seconds", "smoke"])]
    replay: bool,
    /// Runs this input only, once, and shows where it fails
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
}

/// As cargo-fuzz sets them.
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

/// Whatever takes more is a finding: memory, seconds for one input. Inputs are at most this long.
const LIMITS: [&str; 3] = ["-rss_limit_mb=512", "-timeout=5", "-max_len=16384"];

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let targets = targets()?;
    let chosen = match &arguments.target {
        None => targets,
        Some(name) if targets.contains(name) => vec![name.clone()],
        Some(name) => bail!("there is no target `{name}`; there are {}", targets.join(", ")),
    };
    let fuzzer = Fuzzer::build()?;
    if let (Some(input), [target]) = (&arguments.input, chosen.as_slice()) {
        let input = input.canonicalize().with_context(|| format!("cannot read {input:?}"))?;
        return fuzzer.program(target).args(LIMITS).arg(input).env("RUST_BACKTRACE", "1").run();
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
        bail!("{found} of {} targets found something", chosen.len());
    }
    Ok(())
}

/// Their names, in order.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {folder:?}"))? {
        names.extend(entry?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// The targets, built.
struct Fuzzer {
    /// Where all is kept that comes from fuzzing.
    folder: PathBuf,
    programs: PathBuf,
}

impl Fuzzer {
    fn build() -> Result<Self> {
        let folder = target_directory()?.join("fuzz");
        let machine = machine()?;
        // With a target that is named, cargo keeps the marks out of what runs while it builds.
        cargo("fuzz")
            .args(["build", "--release", "--locked", "--quiet", "--bins", "--target", &machine])
            .arg("--target-dir")
            .arg(&folder)
            .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
            .run()
            .context("libFuzzer needs a C++ compiler (`apt-get install g++`)")?;
        let programs = folder.join(machine).join("release");
        Ok(Self { folder, programs })
    }

    fn program(&self, target: &str) -> Tool {
        Tool::new(self.programs.join(target))
    }

    /// False when something was found before `end`, an argument of libFuzzer.
    fn fuzz(&self, target: &str, end: &str) -> Result<bool> {
        let [corpus, findings] = ["corpus", "findings"].map(|it| self.folder.join(it).join(target));
        for folder in [&corpus, &findings] {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {folder:?}"))?;
        }
        let log = self.folder.join(format!("{target}.log"));
        let file = fs::File::create(&log).with_context(|| format!("cannot write {log:?}"))?;
        let fuzz = root().join("fuzz");
        let words = fuzz.join("dictionaries").join(target).with_extension("dict");
        let status = Command::new(self.programs.join(target))
            .arg(&corpus)
            .arg(fuzz.join("corpus").join(target))
            .args(LIMITS)
            .arg(end)
            .arg(format!("-artifact_prefix={}/", findings.display()))
            .args(words.exists().then(|| format!("-dict={}", words.display())))
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::null())
            .stderr(file)
            .status()
            .with_context(|| format!("cannot start the target {target}"))?;
        // Whatever stands there: an input may be shown that is no text.
        let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        if status.success() {
            println!("{target:<12} {}", summary(&said));
            return Ok(true);
        }
        println!("{target:<12} found something: {}", reason(&said));
        match finding(&said) {
            Some(input) => println!(
                "  the input: {input}\n  once more: cargo xtask fuzz {target} --input {input}"
            ),
            None => println!("  it ended with {status}, and without an input that shows it"),
        }
        println!("  all of it: {}", log.display());
        Ok(false)
    }
}

/// What this compiler runs on, as it calls it.
fn machine() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").current_dir(root()).output();
    let output = output.context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(Into::into).context("`rustc -vV` does not say what it runs on")
}

/// From the last line that tells of progress: `#4213 DONE cov: 712 ft: 3100 corp: 310/9Kb …`.
fn summary(said: &str) -> String {
    let is_progress = |line: &&str| line.starts_with('#') && line.contains("cov: ");
    let last = said.lines().rfind(is_progress).unwrap_or_default();
    let words: Vec<_> = last.split_whitespace().collect();
    let after = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).copied()
    };
    let executions = last.trim_start_matches('#').split_whitespace().next().unwrap_or("0");
    format!(
        "{executions} executions, {} places covered, corpus {}",
        after("cov:").unwrap_or("no"),
        after("corp:").unwrap_or("empty"),
    )
}

/// The words of the panic, or libFuzzer's own.
fn reason(said: &str) -> &str {
    let mut lines = said.lines().skip_while(|line| !line.contains("panicked at "));
    let own = || said.lines().find(|line| line.contains("ERROR: libFuzzer"));
    lines.nth(1).or_else(own).unwrap_or("it says nothing")
}

/// Where libFuzzer keeps the input.
fn finding(said: &str) -> Option<&str> {
    let line = said.lines().find(|line| line.contains("Test unit written to "))?;
    line.rsplit_once(" written to ").map(|(_, path)| path).filter(|path| Path::new(path).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: &str = "#12\tNEW    cov: 30 ft: 31 corp: 2/4b\n\
        thread '<unnamed>' (1) panicked at src/resp.rs:30:5:\nit depends on how it arrives\n\
        ==1== ERROR: libFuzzer: deadly signal\n\
        artifact_prefix='f/'; Test unit written to /dev/null\n";

    #[test]
    fn a_run_is_summed_up_in_a_line() {
        let said = "#2\tINITED cov: 1 ft: 1 corp: 1/1b\n#4213\tDONE   cov: 712 ft: 3100 corp: 310/9Kb lim: 5\n\
            ###### Recommended dictionary. ######\nDone\n";
        assert_eq!(summary(said), "4213 executions, 712 places covered, corpus 310/9Kb");
    }

    #[test]
    fn a_finding_is_told_with_its_reason_and_its_input() {
        assert_eq!(reason(FOUND), "it depends on how it arrives");
        assert_eq!(finding(FOUND), Some("/dev/null"));
        assert_eq!(
            reason("==1== ERROR: libFuzzer: timeout after 5 seconds\n"),
            "==1== ERROR: libFuzzer: timeout after 5 seconds"
        );
    }
}
