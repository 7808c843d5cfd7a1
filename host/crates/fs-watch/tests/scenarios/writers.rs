//! Ways to write a file: editors, appends, slow writers, replacement, removal.

use super::{
    scenario::Scenario,
    scenario_constructors::{content, local, missing, plain_file},
    world::World,
};
use std::{thread, time::Duration};

/// Leaves the directory of the scenario empty: the watched file does not exist yet.
fn no_file(_: &mut World) {}

pub(super) const SCENARIOS: &[Scenario] = &[
    local(
        "rename over the file",
        plain_file,
        &[content("1", |w| w.replace("f", "1")), content("2", |w| w.replace("f", "2"))],
    ),
    local(
        "truncate and write",
        plain_file,
        &[content("1", |w| w.write("f", "1")), content("2", |w| w.write("f", "2"))],
    ),
    local(
        "append",
        plain_file,
        &[content("01", |w| w.append("f", "1")), content("012", |w| w.append("f", "2"))],
    ),
    local(
        "truncate and refill",
        plain_file,
        &[content("", |w| w.write("f", "")), content("2", |w| w.write("f", "2"))],
    ),
    local(
        "save by vim with a backup",
        plain_file,
        &[
            content("1", |w| {
                w.rename("f", "f~");
                w.write("f", "1");
                w.remove("f~");
            }),
            content("2", |w| {
                w.rename("f", "f~");
                w.write("f", "2");
            }),
        ],
    ),
    local(
        "save by emacs with a hard-linked backup",
        plain_file,
        &[
            content("1", |w| {
                w.hard_link("f", "f~");
                w.replace("f", "1");
            }),
            content("2", |w| {
                w.rename("f", "f~");
                w.write("f", "2");
            }),
        ],
    ),
    local(
        "writer pauses with the file open",
        plain_file,
        &[
            content("01", |w| w.append_keep_open("f", "1")),
            content("012", |w| w.append_keep_open("f", "2")),
        ],
    ),
    local(
        "slow writer",
        plain_file,
        &[content("0123456789", |w| {
            for digit in ["1", "2", "3", "4", "5", "6", "7", "8", "9"] {
                w.append_keep_open("f", digit);
                thread::sleep(Duration::from_millis(20));
            }
        })],
    ),
    local(
        "create, remove and create again",
        no_file,
        &[
            content("1", |w| w.write("f", "1")),
            missing(|w| w.remove("f")),
            content("1", |w| w.write("f", "1")),
            missing(|w| w.rename("f", "away")),
            content("1", |w| w.rename("away", "f")),
        ],
    ),
    local(
        "burst of renames",
        plain_file,
        &[content("999", |w| {
            for number in 0..1000 {
                w.replace("f", &number.to_string());
            }
        })],
    ),
    local(
        "permission change",
        plain_file,
        &[
            content("1", |w| {
                w.set_mode("f", 0o000);
                w.set_mode("f", 0o600);
                w.write("f", "1");
            }),
            content("2", |w| {
                w.set_mode("f", 0o444);
                w.replace("f", "2");
            }),
        ],
    ),
    local(
        "directory in the place of the file",
        plain_file,
        &[
            missing(|w| {
                w.remove("f");
                w.create_dir("f");
            }),
            content("1", |w| {
                w.remove_all("f");
                w.write("f", "1");
            }),
        ],
    ),
];
