//! Things happen to files at random; what is there in the end is known to whoever watches.
//!
//! `FILES_SEED` repeats a run.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![allow(clippy::print_stdout, reason = "the seed is said")]

mod consumer;

use consumer::Consumer;
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

/// How long worlds are made for.
const BUDGET: Duration = Duration::from_secs(4);
const NEVER: Duration = Duration::from_secs(3600);
/// In each world there is a number of rounds, after each of which all must be known.
const ROUNDS: usize = 6;
const STEPS: u64 = 120;

/// The path that is watched goes through a link or a directory, to a link or a file.
const WATCHED: &str = "way/d/f";
const DIRECTORIES: [&str; 7] = ["a", "b", "a/d", "b/d", "c/d", "way", "way/d"];
const FILES: [&str; 6] = ["a/d/f", "b/d/f", "c/d/f", "g", "h", "way/d/f"];
const LINKS: [(&str, &str); 9] = [
    ("a", "way"),
    ("b", "way"),
    ("c", "way"),
    ("nothing", "way"),
    ("../b/d", "a/d"),
    ("../../g", "a/d/f"),
    ("../../h", "b/d/f"),
    ("h", "g"),
    ("f", "c/d/f"),
];

struct Random(u64);

impl Random {
    /// By the generator `splitmix64`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

struct World {
    root: tempfile::TempDir,
    random: Random,
    /// No two contents are the same.
    contents: u64,
    done: Vec<String>,
}

impl World {
    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// One thing more, which may fail.
    fn step(&mut self) {
        self.contents += 1;
        let content = format!("{:06}", self.contents);
        let file = self.random.of(&FILES);
        let directory = self.random.of(&DIRECTORIES);
        let other = self.random.of(&DIRECTORIES);
        let another = self.random.of(&FILES);
        let (target, link) = self.random.of(&LINKS);
        let what = self.random.below(32);
        let result = match what {
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
            // Whatever is in the way is replaced by what a file may be in.
            15..=18 => make(&self.at(file), &content),
            19..=21 => make(&self.at(WATCHED), &content),
            22 => swap_link("a", &self.at("way")),
            23 => swap_link("b", &self.at("way")),
            _ => {
                thread::sleep(Duration::from_micros(self.random.below(2000)));
                Ok(())
            }
        };
        if result.is_ok() {
            let all = [file, directory, other, another, target, link];
            self.done.push(format!("{:06}: {what} {all:?}", self.contents));
        }
    }
}

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

fn make(path: &Path, content: &str) -> io::Result<()> {
    for directory in path.ancestors().skip(1).take(2).collect::<Vec<_>>().into_iter().rev() {
        if !directory.exists() {
            let _ = fs::remove_file(directory);
            fs::create_dir(directory)?;
        }
    }
    let _ = fs::remove_file(path);
    fs::write(path, content)
}

fn swap_link(target: &str, path: &Path) -> io::Result<()> {
    let new = path.with_extension("link");
    let _ = fs::remove_file(&new);
    symlink(target, &new)?;
    // A directory is not replaced by a link.
    fs::rename(&new, path).or_else(|_| remove_all(path).and_then(|()| fs::rename(&new, path)))
}

fn run(seed: u64, runtime: &Runtime) {
    let root = tempfile::tempdir().unwrap();
    let mut world = World { root, random: Random(seed), contents: 0, done: Vec::new() };
    let path = world.at(WATCHED);
    let files = FileWatcher::new().probe_every(NEVER);
    let patience = if seed.is_multiple_of(2) { NEVER } else { Duration::from_millis(1) };
    let mut consumer = runtime.block_on(Consumer::start(&files, &path, patience));
    for round in 0..ROUNDS {
        for _ in 0..world.random.below(STEPS) {
            world.step();
        }
        let content = fs::read(&path).ok();
        let known = runtime.block_on(consumer.comes_to_know(content.as_deref()));
        if let Err(error) = known {
            let last = world.done.len().saturating_sub(40);
            let (leads, done) = (path.canonicalize(), &world.done[last..]);
            panic!("FILES_SEED={seed}, round {round}, {leads:?}: {error}, after {done:#?}");
        }
    }
}

#[test]
fn the_final_content_is_known_whatever_happens() {
    let runtime = Runtime::new().unwrap();
    if let Ok(seed) = env::var("FILES_SEED") {
        return run(seed.parse().unwrap(), &runtime);
    }
    let first = RandomState::new().hash_one(());
    let began = Instant::now();
    let mut worlds = 0;
    while began.elapsed() < BUDGET {
        let seed = first.wrapping_add(worlds);
        run(seed, &runtime);
        worlds += 1;
    }
    println!("{worlds} worlds from FILES_SEED={first} on");
}
