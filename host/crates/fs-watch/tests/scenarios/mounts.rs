//! Scenarios in which a file system is mounted over a watched file or its parents.

use super::{
    scenario::Scenario,
    scenario_constructors::{content, missing, mounted},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    mounted(
        "bind mount of a single file",
        |w| {
            w.create_dir("there");
            w.write("there/g", "0");
            w.write("f", "");
            w.bind_mount("there/g", "f");
        },
        &[
            content("1", |w| w.write("there/g", "1")),
            content("12", |w| w.append("there/g", "2")),
            content("3", |w| w.write("f", "3")),
        ],
    ),
    mounted(
        "mount and unmount over the file",
        |w| {
            w.write("f", "below");
            w.write("g", "above");
        },
        &[
            content("above", |w| w.bind_mount("g", "f")),
            content("written", |w| w.write("g", "written")),
            content("below", |w| w.unmount("f")),
            content("1", |w| w.write("f", "1")),
        ],
    ),
    mounted(
        "mount and unmount over a parent",
        |w| {
            w.create_dir("a/b");
            w.write("a/b/f", "below");
            w.watch("a/b/f");
        },
        &[
            missing(|w| w.mount_tmpfs("a")),
            content("1", |w| {
                w.create_dir("a/b");
                w.write("a/b/f", "1");
            }),
            content("2", |w| w.replace("a/b/f", "2")),
            content("below", |w| w.unmount("a")),
            content("3", |w| w.write("a/b/f", "3")),
        ],
    ),
    mounted(
        "bind mount of a directory",
        |w| {
            w.create_dir("there");
            w.create_dir("here with a blank");
            w.write("there/f", "0");
            w.watch("here with a blank/f");
        },
        &[
            content("0", |w| w.bind_mount("there", "here with a blank")),
            content("1", |w| w.write("there/f", "1")),
            content("2", |w| w.replace("there/f", "2")),
            missing(|w| w.unmount("here with a blank")),
        ],
    ),
];
