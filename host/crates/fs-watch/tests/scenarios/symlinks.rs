//! Symbolic links in the watched path, replaced at each level.

use super::{
    scenario::Scenario,
    scenario_constructors::{content, local, missing},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    local(
        "nested symbolic links, replaced at each level",
        |w| {
            for name in ["x/1", "x/2", "y"] {
                w.create_dir(name);
            }
            w.write("x/1/f", "0");
            w.write("x/2/f", "1");
            w.write("y/f", "2");
            w.write("z", "3");
            w.symlink("1", "x/now");
            w.symlink("x/now", "parent");
            w.symlink("parent/f", "f");
        },
        &[
            content("1", |w| w.symlink("2", "x/now")),
            content("4", |w| w.write("x/2/f", "4")),
            content("2", |w| w.symlink("y", "parent")),
            content("3", |w| w.symlink("z", "f")),
            content("5", |w| w.replace("z", "5")),
            content("6", |w| w.replace("f", "6")),
            missing(|w| w.symlink("nothing", "f")),
            content("7", |w| w.write("nothing", "7")),
        ],
    ),
    local(
        "symbolic link to a parent and to itself",
        |w| {
            w.create_dir("d");
            w.write("g", "0");
            w.symlink("../d/../g", "d/f");
            w.watch("d/f");
        },
        &[
            content("1", |w| w.write("g", "1")),
            missing(|w| w.symlink("f", "d/f")),
            content("2", |w| w.replace("d/f", "2")),
        ],
    ),
];
