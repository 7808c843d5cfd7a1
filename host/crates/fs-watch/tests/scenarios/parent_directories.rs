//! Creation, removal and replacement of the directories above the file.

use super::{
    scenario::Scenario,
    scenario_constructors::{content, local, missing},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    local(
        "parents created later",
        |w| w.watch("a/b/c/f"),
        &[
            content("1", |w| {
                w.create_dir("a/b/c");
                w.write("a/b/c/f", "1");
            }),
            missing(|w| w.rename("a", "old")),
            content("2", |w| {
                w.create_dir("a/b");
                w.create_dir("a/b/c");
                w.write("a/b/c/f", "2");
            }),
            missing(|w| w.remove_all("a/b")),
            content("1", |w| w.rename("old/b", "a/b")),
        ],
    ),
    local(
        "file in the place of a parent",
        |w| {
            w.watch("a/f");
            w.write("a", "not a directory");
        },
        &[content("1", |w| {
            w.remove("a");
            w.create_dir("a");
            w.write("a/f", "1");
        })],
    ),
    local(
        "directory replaced by another",
        |w| {
            w.create_dir("d");
            w.write("d/f", "0");
            w.watch("d/f");
        },
        &[
            content("1", |w| {
                w.create_dir("new");
                w.write("new/f", "1");
                w.rename("d", "old");
                w.rename("new", "d");
            }),
            content("2", |w| w.write("d/f", "2")),
            content("0", |w| {
                w.remove_all("d");
                w.rename("old", "d");
            }),
            content("3", |w| {
                w.rename("d", "away");
                w.write("away/f", "3");
                w.rename("away", "d");
            }),
            content("4", |w| {
                w.remove_all("d");
                w.create_dir("d");
                w.write("d/f", "4");
            }),
            content("5", |w| w.write("d/f", "5")),
        ],
    ),
];
