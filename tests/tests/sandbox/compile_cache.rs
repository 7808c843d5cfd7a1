//! Tampering with the cache of compiled plugins: damaged, exchanged and special files, and unsafe
//! directories.

use e2e::{Finished, TestHost, component, text_guest};
use rustix::fs::{CWD, Mode, mkfifoat};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Runs a plugin once with a separate cache of compiled plugins.
fn run_with_cache(t: &TestHost, plugin: &str, more: &[&str]) -> Finished {
    let arguments = [&["run", "--once", "--format", "raw", "--plugin", plugin], more].concat();
    t.finish_with("XDG_CACHE_HOME", &t.path("cache").display().to_string(), &arguments)
}

fn cache_entries(t: &TestHost) -> Vec<PathBuf> {
    let folder = t.path("cache/reloader-host");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "cwasm")).collect()
}

/// Test host whose cache of compiled plugins contains the guest `minimal`.
struct CachedPlugin {
    t: TestHost,
    plugin: String,
    entry: PathBuf,
}

impl CachedPlugin {
    fn new() -> Self {
        let t = TestHost::new();
        let plugin = text_guest("minimal").display().to_string();
        assert_eq!(run_with_cache(&t, &plugin, &[]).text(), "x");
        let [entry] = cache_entries(&t).try_into().unwrap();
        Self { t, plugin, entry }
    }

    /// Runs the plugin with the changed entry and asserts that it is compiled again.
    fn assert_recompiled(&self) -> Finished {
        let run = run_with_cache(&self.t, &self.plugin, &[]);
        assert_eq!(run.text(), "x");
        let expected = "invalid plugin cache entry, recompiling";
        assert!(run.stderr.contains(expected), "{}", run.stderr);
        run
    }
}

fn assert_corruption_detected(corrupt: impl Fn(&[u8]) -> Vec<u8>) {
    let cached = CachedPlugin::new();
    let whole = fs::read(&cached.entry).unwrap();
    fs::write(&cached.entry, corrupt(&whole)).unwrap();
    cached.assert_recompiled();
    assert!(fs::read(&cached.entry).unwrap() == whole, "the entry was not written again");
}

/// Flips a bit in this sixteenth of the entry.
fn flip_in(bytes: &[u8], sixteenth: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bytes.len() * sixteenth / 16] ^= 1;
    flipped
}

/// Truncates the entry to this number of sixteenths.
fn truncate_to(bytes: &[u8], sixteenths: usize) -> Vec<u8> {
    bytes[..bytes.len() * sixteenths / 16].to_vec()
}

e2e::cases! {
    mod corrupt_cache_entry_is_recompiled: assert_corruption_detected {
        empty(|_| Vec::new());
        truncated_in_header(|bytes| truncate_to(bytes, 1));
        truncated_in_middle(|bytes| truncate_to(bytes, 8));
        truncated_at_end(|bytes| bytes[..bytes.len() - 1].to_vec());
        first_bit_flipped(|bytes| flip_in(bytes, 0));
        bit_flipped_in_header(|bytes| flip_in(bytes, 1));
        bit_flipped_in_middle(|bytes| flip_in(bytes, 8));
        bit_flipped_at_end(|bytes| flip_in(bytes, 15));
        extended(|bytes| [bytes, b"x"].concat());
    }
}

/// Truncates an entry, or flips a bit of it, at each sixteenth of its length.
#[test]
fn corruption_at_each_offset_is_detected() {
    let cached = CachedPlugin::new();
    let whole = fs::read(&cached.entry).unwrap();
    for sixteenth in 0..16 {
        for corrupt in [truncate_to, flip_in] {
            fs::write(&cached.entry, corrupt(&whole, sixteenth)).unwrap();
            cached.assert_recompiled();
            assert!(fs::read(&cached.entry).unwrap() == whole, "{sixteenth}");
        }
    }
}

fn assert_special_file_ignored(create: fn(&Path)) {
    let cached = CachedPlugin::new();
    fs::remove_file(&cached.entry).unwrap();
    create(&cached.entry);
    let run = cached.assert_recompiled();
    assert!(run.stderr.contains("not a regular file"), "{}", run.stderr);
}

e2e::cases! {
    /// A special file in place of a cache entry must not block the host.
    mod special_file_in_cache_is_ignored: assert_special_file_ignored {
        fifo(|path| mkfifoat(CWD, path, Mode::RWXU).unwrap());
        directory(|path| fs::create_dir(path).unwrap());
        link_to_device(|path| std::os::unix::fs::symlink("/dev/zero", path).unwrap());
    }
}

#[test]
fn cache_entry_of_other_plugin_is_rejected() {
    let t = TestHost::new();
    let quiet = text_guest("minimal").display().to_string();
    let other = fs::read_to_string(e2e::package().join("guests/minimal.wat")).unwrap();
    t.write("other.wasm", component(&other.replace("\"x\"", "\"y\"")));
    assert_eq!(run_with_cache(&t, &quiet, &[]).text(), "x");
    let [first] = cache_entries(&t).try_into().unwrap();
    assert_eq!(run_with_cache(&t, "./other.wasm", &[]).text(), "y");
    let second = cache_entries(&t).into_iter().find(|entry| *entry != first).unwrap();
    fs::copy(&second, &first).unwrap();
    let run = run_with_cache(&t, &quiet, &[]);
    assert_eq!(run.text(), "x", "the compiled code of the other plugin was used");
    assert!(run.stderr.contains("invalid plugin cache entry, recompiling"), "{}", run.stderr);
}

/// Runs the plugin with this cache directory and asserts that the directory is not used.
fn assert_cache_disabled(create: fn(&TestHost, &Path)) {
    let t = TestHost::new();
    fs::create_dir(t.path("cache")).unwrap();
    create(&t, &t.path("cache/reloader-host"));
    let run = run_with_cache(&t, &text_guest("minimal").display().to_string(), &[]);
    assert_eq!(run.text(), "x");
    assert!(run.stderr.contains("plugin cache disabled"), "{}", run.stderr);
    assert_eq!(fs::read_dir(t.path("cache/reloader-host")).unwrap().count(), 0);
}

fn create_writable_directory(_: &TestHost, path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
}

fn link_to_other_directory(t: &TestHost, path: &Path) {
    fs::create_dir(t.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(t.path("elsewhere"), path).unwrap();
}

e2e::cases! {
    /// The host does not use a cache directory in which another user could replace the compiled code.
    mod unsafe_cache_directory_is_not_used: assert_cache_disabled {
        writable_by_others(create_writable_directory);
        symbolic_link(link_to_other_directory);
    }
}
