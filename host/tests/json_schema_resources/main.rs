//! Memory and time of validations against JSON Schemas, with hostile schemas and values. Each test runs in a child
//! process with a memory limit.
#![cfg(all(feature = "bundled", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![allow(clippy::print_stderr, reason = "the measurements")]

mod random_schemas;

use random_schemas::Random;
use reloader_host::{
    decode::Format,
    plugin::{Cache, JsonSchemaSettings, JsonSchemaValidator, Limits, Plugin, PluginHost},
    types::{FailureKind, Snapshot, SourceName},
    validator::{Candidate, Rejection, Validator},
};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    runtime::Builder,
    task::JoinSet,
    time::{sleep, timeout},
};

const MIB: usize = 1 << 20;
/// Memory limit of the child process of a test (`RLIMIT_DATA`), in bytes.
const MAX_PROCESS_BYTES: usize = 256 * MIB;
/// Maximum growth of the resident memory by a check, in bytes.
const MAX_RESIDUE_BYTES: usize = 32 * MIB;
/// Deadline of a check.
const DEADLINE: Duration = Duration::from_secs(10);
/// CPU time limit of each call to the component. A check makes two calls.
const CALL_CPU: Duration = Duration::from_millis(400);
/// Additional time for a check and for the return of its memory on a busy machine.
const SCHEDULING_MARGIN: Duration = Duration::from_secs(20);
/// Environment variable that is set in the child process of a test.
const CHILD_VARIABLE: &str = "RELOADER_JSON_SCHEMA_TEST";
/// Environment variable with the duration of the random checks, in seconds.
const DURATION_VARIABLE: &str = "RELOADER_SCHEMA_LIMITS_SECONDS";
const DEFAULT_DURATION: Duration = Duration::from_secs(20);

/// Runs the test of this name in a child process, while no other test runs. The memory limit and the measurements apply
/// to a whole process, and an allocator keeps memory of earlier tests.
fn run_in_own_process(test_name: &str, test: impl AsyncFnOnce(&mut Checks)) {
    static RUNNING: Mutex<()> = Mutex::new(());
    if env::var_os(CHILD_VARIABLE).is_some() {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(async { test(&mut Checks::new().await).await });
    }
    // A failed test poisons the lock. The other tests run nevertheless.
    let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", test_name, "--nocapture"]).env(CHILD_VARIABLE, "1");
    let output = child.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}\n{stderr}");
    eprint!("{stderr}");
}

/// Returns a figure of this process from `/proc/self/status`, in bytes.
fn status(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// Returns the resident memory, after free memory has been returned to the system.
fn resident() -> usize {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code, reason = "there is no other way to ask the allocator")]
    // SAFETY: `malloc_trim` has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
    status("VmRSS:")
}

/// Limits the memory of this process.
fn limit_memory() {
    let limit = Rlimit { current: Some(MAX_PROCESS_BYTES as u64), maximum: None };
    setrlimit(Resource::Data, limit).unwrap();
}

/// Checks of values with the plugin `json-schema`, and their measurements.
struct Checks {
    directory: TempDir,
    plugin: Plugin,
    slowest: Duration,
    residue: usize,
}

impl Checks {
    /// Loads the plugin and makes a first check, which allocates the memory that later checks share.
    async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        // The processes of all tests share this cache, so the plugin is compiled once.
        let cache = Cache::at(Path::new(env!("CARGO_TARGET_TMPDIR")).join("json_schema_cache"));
        let runtime = PluginHost::builder().cache(cache).build().unwrap();
        let plugin = runtime.load(JsonSchemaValidator::PLUGIN).await.unwrap();
        let mut checks = Self { directory, plugin, slowest: Duration::ZERO, residue: 0 };
        assert_eq!(checks.check("true", "1", Format::Json).await, Ok(()));
        checks
    }

    fn schema_file(&self) -> PathBuf {
        self.directory.path().join("s.json")
    }

    /// Returns a validator with the schema in [`schema_file`](Self::schema_file).
    fn validator(&self, format: Format, limits: &Limits) -> JsonSchemaValidator {
        let settings = JsonSchemaSettings {
            path: self.schema_file(),
            format: Some(format),
            not_empty: false,
            timeout: DEADLINE,
        };
        JsonSchemaValidator::new(self.plugin.clone(), "app", settings, limits)
    }

    /// Runs concurrent checks of a value, and returns the peak of the resident memory, in bytes.
    async fn peak_of_concurrent_checks(&self, value: &str, checks: usize) -> usize {
        fs::write(self.schema_file(), "true").unwrap();
        let mut running = JoinSet::new();
        for _ in 0..checks {
            let validator = self.validator(Format::Json, &Limits::default());
            let (source, new) = (SourceName::new("app"), Snapshot::new(value.to_owned()));
            running.spawn(async move {
                let candidate = Candidate { source: &source, new: &new, before: None };
                validator.validate(&candidate).await
            });
        }
        let mut peak = 0;
        while !running.is_empty() {
            peak = peak.max(status("VmRSS:"));
            let ended = timeout(Duration::from_millis(2), running.join_next()).await;
            if let Ok(Some(checked)) = ended {
                assert_eq!(checked.unwrap(), Ok(()));
            }
        }
        peak
    }

    /// Checks a value, and fails if the check exceeds its deadline or keeps memory.
    async fn check(&mut self, schema: &str, value: &str, format: Format) -> Result<(), Rejection> {
        fs::write(self.schema_file(), schema).unwrap();
        let limits = Limits { call_cpu: CALL_CPU, ..Limits::default() };
        let validator = self.validator(format, &limits);
        let (source, new) = (SourceName::new("app"), Snapshot::new(value.to_owned()));
        let candidate = Candidate { source: &source, new: &new, before: None };
        let (before, start) = (resident(), Instant::now());
        let checked = timeout(DEADLINE + SCHEDULING_MARGIN, validator.validate(&candidate)).await;
        let took = start.elapsed();
        self.slowest = self.slowest.max(took);
        let about = || {
            let shown = |text: &str| text.chars().take(300).collect::<String>();
            format!("{} bytes: {} with {}", value.len(), shown(value), shown(schema))
        };
        let checked = checked.unwrap_or_else(|_| panic!("no result after {took:?}: {}", about()));
        self.residue = self.residue.max(self.wait_for_memory(before, &about).await);
        checked
    }

    /// Waits until memory has been returned, and returns the remaining growth, in bytes.
    async fn wait_for_memory(&self, before: usize, about: &dyn Fn() -> String) -> usize {
        let start = Instant::now();
        loop {
            let residue = resident().saturating_sub(before);
            if residue <= MAX_RESIDUE_BYTES {
                return residue;
            }
            assert!(
                start.elapsed() < SCHEDULING_MARGIN,
                "{residue} bytes are not returned: {}",
                about()
            );
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Returns a JSON list of about this many bytes that repeats one item.
fn list_of(item: &str, bytes: usize) -> String {
    let items = (bytes / (item.len() + 1)).saturating_sub(1);
    format!("[{}{item}]", format!("{item},").repeat(items))
}

const EIGHT_REQUIRED: &str =
    r#"{ "items": { "required": ["a", "b", "c", "d", "e", "f", "g", "h"] } }"#;

/// Schema whose validation takes exponential time in the depth of the value: at each level, every branch of `oneOf`
/// validates the nested value again.
const EXPONENTIAL: &str = r##"{ "$ref": "#/$defs/t", "$defs": { "t": { "oneOf": [
    { "properties": { "a": { "$ref": "#/$defs/t" } } },
    { "properties": { "a": { "$ref": "#/$defs/t" } }, "required": ["z"] },
    { "properties": { "a": { "$ref": "#/$defs/t" } }, "maxProperties": 9 } ] } } }"##;

fn nested(depth: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth))
}

/// Item of the lists that are checked as ordinary, harmless values.
const PERSON: &str = r#"{"name": "somebody", "port": 8080, "tags": ["a", "b"], "enabled": true}"#;

/// Runs six concurrent checks of the largest ordinary value. Each check takes 84 MiB, and checks of this size share
/// 256 MiB, so some of them wait.
#[test]
fn concurrent_large_checks_share_memory() {
    run_in_own_process("concurrent_large_checks_share_memory", async |checks| {
        let value = list_of(PERSON, 8 * MIB);
        let (before, count) = (resident(), 6);
        let peak = checks.peak_of_concurrent_checks(&value, count).await - before;
        assert!(peak < (256 + 64) * MIB + count * value.len(), "{peak} bytes");
        checks.wait_for_memory(before, &|| "concurrent checks".into()).await;
    });
}

/// Checks a value under the memory limit, and asserts that it is rejected permanently with these texts.
fn assert_rejected(test_name: &str, schema: &str, value: &str, expected: &[&str]) {
    run_in_own_process(test_name, async |checks| {
        limit_memory();
        let rejection = checks.check(schema, value, Format::Json).await.unwrap_err();
        assert_eq!(rejection.kind, FailureKind::Permanent);
        for text in expected {
            assert!(rejection.message.contains(text), "{rejection}");
        }
    });
}

/// Without the sandbox, in the process of the host, this validation takes 2.0 GB of memory.
#[test]
fn many_missing_properties_are_rejected() {
    assert_rejected(
        "many_missing_properties_are_rejected",
        EIGHT_REQUIRED,
        &list_of("{}", 450_000),
        &["`/0`: \"a\" is a required property"],
    );
}

/// Without the sandbox, in the process of the host, this validation takes 8.9 GB of memory.
#[test]
fn largest_value_with_missing_properties_is_rejected() {
    assert_rejected(
        "largest_value_with_missing_properties_is_rejected",
        EIGHT_REQUIRED,
        &list_of("{}", 8 * MIB),
        &[],
    );
}

/// Without the sandbox, in the process of the host, this validation takes more than 14 GB of memory.
#[test]
fn exponential_validation_is_stopped() {
    assert_rejected(
        "exponential_validation_is_stopped",
        EXPONENTIAL,
        &nested(100),
        &[
            "the validation against the schema",
            "limit `memory` is 25MiB",
            "raise `limits` of the source",
        ],
    );
}

/// The validation compares each of 350,000 array items with 5,000 values of an `enum`.
#[test]
fn quadratic_validation_is_stopped() {
    let choices: Vec<_> = (0..5_000).map(|n| format!("{{\"a\":{n}}}")).collect();
    let schema = format!(r#"{{ "items": {{ "not": {{ "enum": [{}] }} }} }}"#, choices.join(","));
    assert_rejected(
        "quadratic_validation_is_stopped",
        &schema,
        &list_of("{}", MIB),
        &["limit `call-cpu` is 400ms"],
    );
}

#[test]
fn ordinary_value_is_accepted_under_memory_limit() {
    run_in_own_process("ordinary_value_is_accepted_under_memory_limit", async |checks| {
        limit_memory();
        let schema = r#"{ "items": { "properties": { "port": { "type": "integer" } } } }"#;
        assert_eq!(checks.check(schema, &list_of(PERSON, MIB), Format::Json).await, Ok(()));
    });
}

/// Checks a value whose parsed tree takes many times the memory of its text. The check may accept or reject the value,
/// but must stay within the memory limit and the deadline.
fn assert_tree_bounded(test_name: &str, value: &str, format: Format) {
    run_in_own_process(test_name, async |checks| {
        limit_memory();
        if let Err(rejection) = checks.check("true", value, format).await {
            let expected = ["the validation against the schema", ": budget breached"];
            assert!(expected.iter().any(|text| rejection.message.contains(text)), "{rejection}");
        }
    });
}

#[test]
fn json_tree_of_objects_is_bounded() {
    assert_tree_bounded(
        "json_tree_of_objects_is_bounded",
        &list_of(r#"{"":0}"#, 8 * MIB),
        Format::Json,
    );
}

#[test]
fn json_tree_of_numbers_is_bounded() {
    assert_tree_bounded("json_tree_of_numbers_is_bounded", &list_of("1", 8 * MIB), Format::Json);
}

#[test]
fn toml_tree_of_tables_is_bounded() {
    assert_tree_bounded(
        "toml_tree_of_tables_is_bounded",
        &format!("a = {}", list_of("{a=0}", 8 * MIB)),
        Format::Toml,
    );
}

#[test]
fn yaml_tree_of_objects_is_bounded() {
    assert_tree_bounded("yaml_tree_of_objects_is_bounded", &list_of("{}", 8 * MIB), Format::Yaml);
}

/// Checks random values against random schemas for [`DEFAULT_DURATION`], or for the duration in [`DURATION_VARIABLE`].
/// Each check must stay within the memory limit and the deadline.
#[test]
fn random_checks_stay_within_memory_and_deadline() {
    run_in_own_process("random_checks_stay_within_memory_and_deadline", async |checks| {
        limit_memory();
        // Resets the peak of the resident memory, `VmHWM`.
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let base = resident();
        let seconds = env::var(DURATION_VARIABLE).ok().and_then(|seconds| seconds.parse().ok());
        let duration = seconds.map_or(DEFAULT_DURATION, Duration::from_secs);
        let (start, mut random, mut outcomes) = (Instant::now(), Random::new(7), [0; 3]);
        while start.elapsed() < duration {
            let (schema, value) = (random.schema().to_string(), random.value());
            let outcome = match checks.check(&schema, &value, Format::Json).await {
                Ok(()) => 0,
                Err(rejection) if rejection.kind == FailureKind::Permanent => 1,
                Err(_) => 2,
            };
            outcomes[outcome] += 1;
        }
        let after = checks.wait_for_memory(base, &|| "at the end".into()).await;
        let mib = |bytes: usize| bytes / MIB;
        eprintln!(
            "{outcomes:?} checks accepted, rejected, not made (schema too large, or no memory left); slowest {:?}; \
             memory: {} MiB before, {} MiB more after, up to {} MiB more after one check, peak {} MiB",
            checks.slowest,
            mib(base),
            mib(after),
            mib(checks.residue),
            mib(status("VmHWM:")),
        );
    });
}
