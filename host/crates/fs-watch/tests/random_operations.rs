//! Randomized test: after random file operations, the watcher reports the final content.
//!
//! To repeat a failed run, set the environment variable `FILES_SEED` to its seed.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]
#![allow(clippy::print_stdout, reason = "the first seed is printed")]

mod consumer;

use consumer::{Consumer, NEVER};
use reloader_fs_watch::FileWatcher;
use std::{
    env, fs,
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// Time budget of the test, in which it creates and changes one [`World`] after the other.
const TIME_BUDGET: Duration = Duration::from_secs(4);
/// Number of rounds in a world. The consumer must have the final content after each round.
const ROUNDS_PER_WORLD: usize = 6;
/// Upper bound of the number of operations in a round.
const MAX_STEPS_PER_ROUND: u64 = 120;

/// Watched path. The parent is a directory or a link, and the file is a file or a link.
const WATCHED_PATH: &str = "parent/d/f";
const DIRECTORIES: [&str; 7] = ["a", "b", "a/d", "b/d", "c/d", "parent", "parent/d"];
const FILES: [&str; 6] = ["a/d/f", "b/d/f", "c/d/f", "g", "h", "parent/d/f"];
/// Target and path of each symbolic link that an operation may create.
const LINKS: [(&str, &str); 9] = [
    ("a", "parent"),
    ("b", "parent"),
    ("c", "parent"),
    ("missing", "parent"),
    ("../b/d", "a/d"),
    ("../../g", "a/d/f"),
    ("../../h", "b/d/f"),
    ("h", "g"),
    ("f", "c/d/f"),
];

/// Pseudo-random number generator `splitmix64`.
struct Random(u64);

impl Random {
    /// Returns a number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Returns one of `all`.
    fn choose<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// Temporary directory in which random operations change files, directories and links.
struct World {
    root: tempfile::TempDir,
    random: Random,
    /// Number of the last content. It makes each content unique.
    contents: u64,
    /// Descriptions of the operations that succeeded, for the message of a failed test.
    log: Vec<String>,
}

impl World {
    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Runs a random operation, which may fail.
    fn step(&mut self) {
        self.contents += 1;
        let content = format!("{:06}", self.contents);
        let file = self.random.choose(&FILES);
        let directory = self.random.choose(&DIRECTORIES);
        let other = self.random.choose(&DIRECTORIES);
        let another = self.random.choose(&FILES);
        let (target, link) = self.random.choose(&LINKS);
        let operation = self.random.below(32);
        let result = match operation {
            0..=3 => fs::write(self.at(file), content),
            4..=6 => replace(&self.at(file), &content),
            7 => append(&self.at(file), &content),
            8 => fs::remove_file(self.at(file)),
            9 => fs::rename(self.at(file), self.at(another)),
            10 => fs::hard_link(self.at(file), self.at(another)),
            11 => remove_all(&self.at(directory)),
            12 => fs::rename(self.at(directory), self.at(other)),
            13 => swap_link(target, &self.at(link)),
            14 => symlink(target, self.at(link)),
            // Also replaces files that have the names of the parent directories.
            15..=18 => create(&self.at(file), &content),
            19..=21 => create(&self.at(WATCHED_PATH), &content),
            22 => swap_link("a", &self.at("parent")),
            23 => swap_link("b", &self.at("parent")),
            _ => {
                thread::sleep(Duration::from_micros(self.random.below(2000)));
                Ok(())
            }
        };
        if result.is_ok() {
            let all = [file, directory, other, another, target, link];
            self.log.push(format!("{:06}: {operation} {all:?}", self.contents));
        }
    }
}

/// Writes a new file and renames it over `path`.
fn replace(path: &Path, content: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content)?;
    fs::rename(new, path)
}

fn append(path: &Path, content: &str) -> io::Result<()> {
    fs::OpenOptions::new().append(true).open(path)?.write_all(content.as_bytes())
}

fn remove_all(path: &Path) -> io::Result<()> {
    if path.is_symlink() { fs::remove_file(path) } else { fs::remove_dir_all(path) }
}

/// Creates a file and its two parent directories. Replaces files and links that have the
/// names of the directories.
fn create(path: &Path, content: &str) -> io::Result<()> {
    for directory in path.ancestors().skip(1).take(2).collect::<Vec<_>>().into_iter().rev() {
        if !directory.exists() {
            let _ = fs::remove_file(directory);
            fs::create_dir(directory)?;
        }
    }
    let _ = fs::remove_file(path);
    fs::write(path, content)
}

/// Creates a symbolic link and renames it over `path`.
fn swap_link(target: &str, path: &Path) -> io::Result<()> {
    let new = path.with_extension("link");
    let _ = fs::remove_file(&new);
    symlink(target, &new)?;
    // A rename does not replace a directory by a link.
    fs::rename(&new, path).or_else(|_| remove_all(path).and_then(|()| fs::rename(&new, path)))
}

/// Runs random operations in one directory, and checks after each round that the consumer has the content.
fn run(seed: u64, runtime: &Runtime) {
    let root = tempfile::tempdir().unwrap();
    let mut world = World { root, random: Random(seed), contents: 0, log: Vec::new() };
    let path = world.at(WATCHED_PATH);
    let files = FileWatcher::new().poll_interval(NEVER);
    let wait_timeout = if seed.is_multiple_of(2) { NEVER } else { Duration::from_millis(1) };
    let mut consumer = runtime.block_on(Consumer::start(&files, &path, wait_timeout));
    for round in 0..ROUNDS_PER_WORLD {
        for _ in 0..world.random.below(MAX_STEPS_PER_ROUND) {
            world.step();
        }
        let content = fs::read(&path).ok();
        let received = runtime.block_on(consumer.wait_for(content.as_deref()));
        if let Err(error) = received {
            let first = world.log.len().saturating_sub(40);
            let (target, log) = (path.canonicalize(), &world.log[first..]);
            panic!("FILES_SEED={seed}, round {round}, {target:?}: {error}, after {log:#?}");
        }
    }
}

#[test]
fn final_content_arrives_after_random_steps() {
    let runtime = Runtime::new().unwrap();
    if let Ok(seed) = env::var("FILES_SEED") {
        return run(seed.parse().unwrap(), &runtime);
    }
    let first = RandomState::new().hash_one(());
    let start = Instant::now();
    let mut worlds = 0;
    while start.elapsed() < TIME_BUDGET {
        let seed = first.wrapping_add(worlds);
        run(seed, &runtime);
        worlds += 1;
    }
    println!("{worlds} worlds from FILES_SEED={first} on");
}
