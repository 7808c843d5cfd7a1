//! Configuration of the host under test, and the scripts and directories that it names.

use crate::{
    sources::{Kind, MoreSink, PROBE, Source},
    value_server::ValueServer,
};
use e2e::TestHost;
use std::{
    fmt::Write,
    fs,
    process::{Child, Command, Stdio},
    sync::Arc,
};

/// Sources of the configured group. A template sink of the group renders their values.
pub(crate) const GROUP: [&str; 3] = ["file-0", "symlink-0", "url-0"];
/// File into which the template sink of the group renders.
pub(crate) const GROUP_FILE: &str = "out/group";
/// Sources whose delivered files the `[command]` concatenates into [`CONSUMER_FILE`] at each SIGHUP.
pub(crate) const CONSUMED: [&str; 2] = ["file-0", "file-1"];
pub(crate) const CONSUMER_FILE: &str = "consumer.seen";
/// File into which the script `signalled.sh`, which the signal sink signals, copies the delivered value.
pub(crate) const SIGNALLED_FILE: &str = "signalled.seen";

/// Source with `store = false`: the state store contains its revision number, but no value.
const UNSTORED: &str = "file-11";

/// Returns the sources of the first configuration. The test never removes them.
pub(crate) fn initial_sources(redis: bool) -> Vec<Arc<Source>> {
    let mut sources = vec![
        Source::new(PROBE, Kind::File, MoreSink::None),
        Source::new("signalled-0", Kind::File, MoreSink::Signal),
        Source::new("validated-0", Kind::Validated, MoreSink::Exec),
        Source::new("validated-1", Kind::Validated, MoreSink::None),
        Source::new("symlink-0", Kind::SymlinkedFile, MoreSink::None),
        Source::new("symlink-1", Kind::SymlinkedFile, MoreSink::Webhook),
        Source::new("replaced-0", Kind::ReplacedPlugin, MoreSink::None),
        Source::new("replaced-1", Kind::ReplacedPlugin, MoreSink::Exec),
        Source::new("url-0", Kind::PolledUrl, MoreSink::None),
        Source::new("url-1", Kind::StreamedUrl, MoreSink::Webhook),
        Source::new("url-2", Kind::LongPolledUrl, MoreSink::None),
    ];
    for number in 0..12 {
        let more = match number {
            2 | 3 => MoreSink::Exec,
            4 | 5 => MoreSink::Webhook,
            _ => MoreSink::None,
        };
        sources.push(Source::new(&format!("file-{number}"), Kind::File, more));
    }
    if redis {
        for number in 0..4 {
            let more = if number == 0 { MoreSink::Exec } else { MoreSink::None };
            sources.push(Source::new(&format!("key-{number}"), Kind::Key, more));
        }
    }
    sources.into_iter().map(Arc::new).collect()
}

/// Returns the configuration with these sources.
pub(crate) fn text(
    sources: &[Arc<Source>],
    server: &ValueServer,
    redis_port: Option<u16>,
) -> String {
    let mut config = String::from(
        "[state]\npath = \"state\"\n\
         [command]\ncommand = [\"sh\", \"consumer.sh\"]\n\
         [defaults]\ninterval = \"1s\"\n",
    );
    for source in sources {
        add_source(&mut config, source, server, redis_port);
    }
    let names = GROUP.map(|name| format!("{name:?}")).join(", ");
    let template = GROUP.map(|name| format!("{{{{ sources['{name}'].text }}}}")).join("|");
    let _ = write!(
        config,
        "[[group]]\nname = \"group\"\nsources = [{names}]\n\
         [[group.sink]]\ntype = \"template\"\ntemplate = \"{template}\"\npath = \"{GROUP_FILE}\"\n"
    );
    config
}

fn add_source(config: &mut String, source: &Source, server: &ValueServer, redis_port: Option<u16>) {
    let (name, path) = (&source.name, source.present().path.clone());
    let url = |path: &str| server.url(&format!("/{path}/{name}"));
    let watched_url = |path: &str, watch: &str| {
        let (value, events) = (url("value"), url(path));
        format!("{{ url = {value:?}, watch = {watch:?}, watch_url = {events:?} }}")
    };
    let (plugin, settings) = match source.kind {
        Kind::File | Kind::SymlinkedFile | Kind::Validated | Kind::HungFile => {
            ("file", format!("{{ path = {path:?} }}"))
        }
        Kind::ReplacedPlugin => ("./file.wasm", format!("{{ path = {path:?} }}")),
        Kind::Key => {
            let port = redis_port.unwrap_or_default();
            ("kvs", format!("{{ url = \"redis://127.0.0.1:{port}\", key = {name:?} }}"))
        }
        Kind::PolledUrl => ("http", format!("{{ url = {:?} }}", url("value"))),
        Kind::StreamedUrl => ("http", watched_url("events", "sse")),
        Kind::LongPolledUrl => ("http", watched_url("poll", "long-poll")),
    };
    let required = source.kind != Kind::HungFile;
    let _ = write!(
        config,
        "[[source]]\nname = {name:?}\nplugin = {plugin:?}\nconfig = {settings}\nrequired = {required}\n"
    );
    if source.name == UNSTORED {
        config.push_str("store = false\n");
    }
    if source.kind == Kind::Validated {
        config.push_str("[source.validate]\nschema = \"schema.json\"\nparse = \"json\"\n");
    }
    let _ = write!(config, "[[source.sink]]\ntype = \"file\"\npath = \"out/{name}\"\n");
    let sink = match source.more {
        MoreSink::None => return,
        MoreSink::Exec => "type = \"exec\"\ncommand = [\"sh\", \"exec.sh\"]\n".into(),
        MoreSink::Webhook => format!("type = \"webhook\"\nurl = {:?}\n", url("hook")),
        MoreSink::Signal => {
            "type = \"signal\"\npid-file = \"signalled.pid\"\nsignal = \"SIGUSR1\"\n".into()
        }
    };
    let _ = write!(config, "[[source.sink]]\n{sink}");
}

/// Creates the directories, and writes the scripts, the JSON Schema and the first version of `file.wasm`, the
/// plugin that the test replaces.
pub(crate) fn write_files(t: &TestHost) {
    for directory in ["in", "out", "exec", "state", "hung"] {
        fs::create_dir(t.path(directory)).expect("the directory is writable");
    }
    t.write("schema.json", r#"{ "properties": { "number": { "type": "integer" } } }"#);
    t.write(
        "exec.sh",
        "new=exec/$RELOADER_SOURCE.$$\ncat > $new && mv $new exec/$RELOADER_SOURCE\n",
    );
    t.write("consumer.sh", script("consumer", "HUP", &CONSUMED));
    t.write("signalled.sh", script("signalled", "USR1", &["signalled-0"]));
    t.write("file.wasm", file_plugin(0));
}

/// Returns a script that copies the files of these sources to `NAME.seen` at its start and at each signal.
fn script(name: &str, signal: &str, sources: &[&str]) -> String {
    let files = sources.iter().map(|source| format!("out/{source}")).collect::<Vec<_>>().join(" ");
    format!(
        "exec 2> /dev/null\n\
         collect() {{ cat {files} > {name}.new && mv {name}.new {name}.seen; }}\n\
         trap collect {signal}\n\
         trap 'rm -f {name}.pid; exit 0' TERM\n\
         echo $$ > {name}.pid\n\
         collect\n\
         while :; do sleep 1 & wait $!; done\n"
    )
}

/// Starts the program that the signal sink signals.
pub(crate) fn start_signalled(t: &TestHost) -> Child {
    let mut command = Command::new("sh");
    command.arg("signalled.sh").current_dir(t.directory()).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("a shell is installed")
}

/// Returns the bundled plugin `file` with a custom section, so that each variant has another digest and the same
/// behaviour.
pub(crate) fn file_plugin(variant: u8) -> Vec<u8> {
    let file = reloader_host::plugin::bundled().find(|plugin| plugin.name == "file");
    let file = file.expect("the plugin `file` is bundled").component.to_vec();
    e2e::with_section(file, "variant", &[variant])
}
