//! Scenarios in which a watched file is written through another hard link.

use super::{
    scenario::Scenario,
    scenario_constructors::{content, local, plain_file},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    local(
        "write through a hard link",
        plain_file,
        &[content("1", |w| {
            w.hard_link("f", "g");
            w.write("g", "1");
        })],
    ),
    local(
        "hard link",
        |w| {
            w.create_dir("other");
            w.write("f", "0");
            w.hard_link("f", "other/g");
        },
        &[
            content("1", |w| w.write("other/g", "1")),
            content("12", |w| w.append("other/g", "2")),
            content("123", |w| w.append_keep_open("other/g", "3")),
            content("4", |w| {
                w.replace("other/g", "another file now");
                w.write("f", "4");
            }),
            content("5", |w| w.write("f", "5")),
        ],
    ),
    local(
        "hard link created later",
        |w| {
            w.create_dir("other");
            w.write("f", "0");
        },
        &[
            content("1", |w| {
                w.hard_link("f", "other/g");
                w.write("other/g", "1");
            }),
            content("2", |w| w.write("other/g", "2")),
            content("3", |w| {
                w.write("other/h", "3");
                w.remove("f");
                w.hard_link("other/h", "f");
            }),
            content("4", |w| w.write("other/h", "4")),
            content("5", |w| {
                w.replace("f", "6");
                w.hard_link("f", "other/i");
                w.write("other/i", "5");
            }),
        ],
    ),
];
