//! Names of the threads in a program that embeds the host: their prefix shows an operator which threads belong to the
//! library.
#![cfg(all(feature = "app", feature = "bundled", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use reloader_host::{
    PluginHost,
    app::{App, Config, ControlRequest, prepare},
    file_reloader::{AsyncFileLoad, FileReloader},
    plugin::{Cache, Compiler},
    reload::{ReloaderConfig, ReloaderService},
};
use std::{
    collections::BTreeSet,
    env, fs,
    io::{self, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{runtime::Builder, sync::mpsc, time::timeout};

/// Environment variable that makes this test binary run the embedding program.
const PROGRAM_VARIABLE: &str = "RELOADER_EMBEDDING_TEST";
/// Prefix of the names of the threads of the embedding program.
const OWN_PREFIX: &str = "embedder-";
/// Timeout of each wait; reached only on failure.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs this test alone in a child process, in which no other test starts threads. There, each thread that belongs
/// neither to the embedding program nor to the test runner must have the prefix `reloader-`.
#[test]
fn threads_of_embedded_host_have_its_prefix() {
    if env::var_os(PROGRAM_VARIABLE).is_some() {
        return embedding_program();
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "threads_of_embedded_host_have_its_prefix", "--nocapture"])
        .env(PROGRAM_VARIABLE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn embedding_program() {
    // The main thread and the thread of this test.
    let runner = thread_names();
    let is_done = Arc::new(AtomicBool::new(false));
    let seen = thread::Builder::new().name(format!("{OWN_PREFIX}names")).spawn({
        let is_done = Arc::clone(&is_done);
        move || {
            let mut seen = BTreeSet::new();
            while !is_done.load(Ordering::Relaxed) {
                seen.extend(thread_names());
                thread::sleep(Duration::from_millis(1));
            }
            seen
        }
    });
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(format!("{OWN_PREFIX}async"))
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        timeout(TIMEOUT, run_host()).await.expect("the host delivers");
    });
    is_done.store(true, Ordering::Relaxed);
    let seen = seen.unwrap().join().unwrap();
    let of_host = |name: &&String| !runner.contains(*name) && !name.starts_with(OWN_PREFIX);
    let (named, others): (BTreeSet<_>, BTreeSet<_>) =
        seen.iter().filter(of_host).partition(|name| name.starts_with("reloader-"));
    assert!(others.is_empty(), "without the prefix: {others:?}; with it: {named:?}");
    for expected in ["compil", "epochs", "files", "guests", "http", "plugin", "state"] {
        let name = format!("reloader-{expected}");
        assert!(named.contains(&name), "{name} is missing: {named:?}");
    }
}

/// Returns the names of all threads of this process.
fn thread_names() -> BTreeSet<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
    // A thread may end in the meantime.
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.map(|name| name.trim_end().to_owned()).collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Text(String);

impl TryFrom<&PathBuf> for Text {
    type Error = io::Error;

    fn try_from(path: &PathBuf) -> io::Result<Self> {
        fs::read_to_string(path).map(Self)
    }
}

#[async_trait::async_trait]
impl AsyncFileLoad for Text {
    type Error = io::Error;

    async fn async_load_from<T: AsRef<Path> + Send>(path: T) -> io::Result<Self> {
        tokio::fs::read_to_string(path).await.map(Self)
    }
}

/// Runs a configuration with sources of files and HTTP, validation, sinks and state, and a native file reloader.
async fn run_host() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("in"), "{}").unwrap();
    fs::write(path("schema.json"), "{}").unwrap();
    fs::write(path("config.toml"), config(directory.path(), serve_http())).unwrap();

    // Without a cache, the host compiles the plugins, so the compiler threads run.
    let runtime = PluginHost::builder().cache(Cache::none()).compiler(Compiler::InProcess).build();
    let runtime = runtime.unwrap();
    let config = Config::read(&path("config.toml")).unwrap();
    let prepared = prepare(&runtime, &config).await.unwrap();
    let app = App::start(runtime, config, prepared).await.unwrap();
    let (requests, receiver) = mpsc::channel(1);
    let running = tokio::spawn(app.run(receiver));

    let source = path("in").display().to_string();
    let (service, mut texts) = ReloaderService::<FileReloader<Text>, Text, String>::new(
        &source,
        ReloaderConfig::hybrid(1),
    )
    .await
    .unwrap();
    let service = tokio::spawn(async move { service.start_with_realtime().await });
    texts.changed().await.unwrap();
    for (file, content) in [("file.out", "{}"), ("http.out", "[]")] {
        wait_for_content(&path(file), content).await;
    }
    fs::write(path("in"), "{ }").unwrap();
    wait_for_content(&path("file.out"), "{ }").await;
    wait_for_content(&path("exec.out"), "{ }").await;
    requests.send(ControlRequest::Stop).await.unwrap();
    running.await.unwrap();
    service.abort();
}

fn config(directory: &Path, port: u16) -> String {
    let directory = directory.display();
    format!(
        "[state]\npath = \"{directory}/state\"\n\
         [[source]]\nname = \"file\"\nplugin = \"file\"\nconfig.path = \"{directory}/in\"\n\
         validate = {{ parse = \"json\", schema = \"{directory}/schema.json\", command = [\"true\"] }}\n\
         [[source.sink]]\ntype = \"file\"\npath = \"{directory}/file.out\"\n\
         [[source.sink]]\ntype = \"exec\"\ncommand = \"cat > {directory}/exec.out\"\n\
         [[source]]\nname = \"http\"\nplugin = \"http\"\nconfig.url = \"http://localhost:{port}/\"\n\
         allow-address = [\"127.0.0.0/8\", \"::1/128\"]\n\
         [[source.sink]]\ntype = \"file\"\npath = \"{directory}/http.out\"\n"
    )
}

/// Answers each HTTP request with `[]`. Returns the port.
fn serve_http() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]";
            let _ = stream.write_all(answer.as_bytes());
        }
    };
    thread::Builder::new().name(format!("{OWN_PREFIX}http")).spawn(serve).unwrap();
    port
}

async fn wait_for_content(path: &Path, content: &str) {
    while fs::read_to_string(path).ok().as_deref() != Some(content) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
