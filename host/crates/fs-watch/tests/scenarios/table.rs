//! The scenarios.

use super::{Need, Scenario, Step, Then, World};
use std::{thread, time::Duration};

const fn is(content: &'static str, act: fn(&mut World)) -> Step {
    Step { then: Then::Is(content), act }
}

const fn gone(act: fn(&mut World)) -> Step {
    Step { then: Then::Gone, act }
}

const fn told(name: &'static str, set_up: fn(&mut World), steps: &'static [Step]) -> Scenario {
    Scenario { name, needs: &[], told: true, set_up, steps }
}

const fn mounted(name: &'static str, set_up: fn(&mut World), steps: &'static [Step]) -> Scenario {
    Scenario { name, needs: &[Need::Mount], told: true, set_up, steps }
}

const fn through_fuse(
    name: &'static str,
    set_up: fn(&mut World),
    steps: &'static [Step],
) -> Scenario {
    Scenario { name, needs: &[Need::Bindfs], told: false, set_up, steps }
}

/// Nothing is there yet.
fn nothing(_: &mut World) {}

/// The path is a plain file.
fn plain(w: &mut World) {
    w.write("f", "0");
}

/// The path is in a directory that is shown through FUSE; it changes behind its back.
fn behind_fuse(w: &mut World) {
    w.directory("real");
    w.directory("shown");
    w.write("real/f", "0");
    w.bindfs("real", "shown");
    w.watch("shown/f");
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    told(
        "renamed over",
        plain,
        &[is("1", |w| w.replace("f", "1")), is("2", |w| w.replace("f", "2"))],
    ),
    told(
        "truncated and written",
        plain,
        &[is("1", |w| w.write("f", "1")), is("2", |w| w.write("f", "2"))],
    ),
    told(
        "appended to",
        plain,
        &[is("01", |w| w.append("f", "1")), is("012", |w| w.append("f", "2"))],
    ),
    told(
        "truncated to nothing and filled again",
        plain,
        &[is("", |w| w.write("f", "")), is("2", |w| w.write("f", "2"))],
    ),
    told(
        "saved by vim, with a backup",
        plain,
        &[
            is("1", |w| {
                w.rename("f", "f~");
                w.write("f", "1");
                w.remove("f~");
            }),
            is("2", |w| {
                w.rename("f", "f~");
                w.write("f", "2");
            }),
        ],
    ),
    told(
        "saved by emacs, with a backup by linking",
        plain,
        &[
            is("1", |w| {
                w.link("f", "f~");
                w.replace("f", "1");
            }),
            is("2", |w| {
                w.rename("f", "f~");
                w.write("f", "2");
            }),
        ],
    ),
    told(
        "exchanged with a backup that is written in place",
        plain,
        &[is("1", |w| {
            w.link("f", "g");
            w.write("g", "1");
        })],
    ),
    told(
        "written by somebody who keeps it open and pauses",
        plain,
        &[is("01", |w| w.keep_writing("f", "1")), is("012", |w| w.keep_writing("f", "2"))],
    ),
    told(
        "written slowly",
        plain,
        &[is("0123456789", |w| {
            for digit in ["1", "2", "3", "4", "5", "6", "7", "8", "9"] {
                w.keep_writing("f", digit);
                thread::sleep(Duration::from_millis(20));
            }
        })],
    ),
    told(
        "made, removed and made again",
        nothing,
        &[
            is("1", |w| w.write("f", "1")),
            gone(|w| w.remove("f")),
            is("1", |w| w.write("f", "1")),
            gone(|w| w.rename("f", "away")),
            is("1", |w| w.rename("away", "f")),
        ],
    ),
    told(
        "a burst",
        plain,
        &[is("999", |w| {
            for number in 0..1000 {
                w.replace("f", &number.to_string());
            }
        })],
    ),
    told(
        "parents that are made later",
        |w| w.watch("a/b/c/f"),
        &[
            is("1", |w| {
                w.directory("a/b/c");
                w.write("a/b/c/f", "1");
            }),
            gone(|w| w.rename("a", "old")),
            is("2", |w| {
                w.directory("a/b");
                w.directory("a/b/c");
                w.write("a/b/c/f", "2");
            }),
            gone(|w| w.remove_all("a/b")),
            is("1", |w| w.rename("old/b", "a/b")),
        ],
    ),
    told(
        "a file in the place of a parent",
        |w| {
            w.watch("a/f");
            w.write("a", "not a directory");
        },
        &[is("1", |w| {
            w.remove("a");
            w.directory("a");
            w.write("a/f", "1");
        })],
    ),
    told(
        "a volume of Kubernetes",
        |w| {
            w.volume("..1", "1");
            w.symlink("..data/f", "f");
        },
        &[
            is("2", |w| {
                w.volume("..2", "2");
                w.remove_all("..1");
            }),
            is("3", |w| {
                w.volume("..3", "3");
                w.remove_all("..2");
            }),
            is("4", |w| w.write("..3/f", "4")),
        ],
    ),
    told(
        "links that lead through links, changed at each level",
        |w| {
            for name in ["x/1", "x/2", "y"] {
                w.directory(name);
            }
            w.write("x/1/f", "0");
            w.write("x/2/f", "1");
            w.write("y/f", "2");
            w.write("z", "3");
            w.symlink("1", "x/now");
            w.symlink("x/now", "way");
            w.symlink("way/f", "f");
        },
        &[
            is("1", |w| w.symlink("2", "x/now")),
            is("4", |w| w.write("x/2/f", "4")),
            is("2", |w| w.symlink("y", "way")),
            is("3", |w| w.symlink("z", "f")),
            is("5", |w| w.replace("z", "5")),
            is("6", |w| w.replace("f", "6")),
            gone(|w| w.symlink("nothing", "f")),
            is("7", |w| w.write("nothing", "7")),
        ],
    ),
    told(
        "a link that leads up and to itself",
        |w| {
            w.directory("d");
            w.write("g", "0");
            w.symlink("../d/../g", "d/f");
            w.watch("d/f");
        },
        &[
            is("1", |w| w.write("g", "1")),
            gone(|w| w.symlink("f", "d/f")),
            is("2", |w| w.replace("d/f", "2")),
        ],
    ),
    told(
        "a directory swapped for another",
        |w| {
            w.directory("d");
            w.write("d/f", "0");
            w.watch("d/f");
        },
        &[
            is("1", |w| {
                w.directory("new");
                w.write("new/f", "1");
                w.rename("d", "old");
                w.rename("new", "d");
            }),
            is("2", |w| w.write("d/f", "2")),
            is("0", |w| {
                w.remove_all("d");
                w.rename("old", "d");
            }),
            is("3", |w| {
                w.rename("d", "away");
                w.write("away/f", "3");
                w.rename("away", "d");
            }),
            is("4", |w| {
                w.remove_all("d");
                w.directory("d");
                w.write("d/f", "4");
            }),
            is("5", |w| w.write("d/f", "5")),
        ],
    ),
    told(
        "a hard link",
        |w| {
            w.directory("other");
            w.write("f", "0");
            w.link("f", "other/g");
        },
        &[
            is("1", |w| w.write("other/g", "1")),
            is("12", |w| w.append("other/g", "2")),
            is("123", |w| w.keep_writing("other/g", "3")),
            is("4", |w| {
                w.replace("other/g", "another file now");
                w.write("f", "4");
            }),
            is("5", |w| w.write("f", "5")),
        ],
    ),
    told(
        "a hard link that is made later",
        |w| {
            w.directory("other");
            w.write("f", "0");
        },
        &[
            is("1", |w| {
                w.link("f", "other/g");
                w.write("other/g", "1");
            }),
            is("2", |w| w.write("other/g", "2")),
            is("3", |w| {
                w.write("other/h", "3");
                w.remove("f");
                w.link("other/h", "f");
            }),
            is("4", |w| w.write("other/h", "4")),
            is("5", |w| {
                w.replace("f", "6");
                w.link("f", "other/i");
                w.write("other/i", "5");
            }),
        ],
    ),
    told(
        "who may read it",
        plain,
        &[
            is("1", |w| {
                w.mode("f", 0o000);
                w.mode("f", 0o600);
                w.write("f", "1");
            }),
            is("2", |w| {
                w.mode("f", 0o444);
                w.replace("f", "2");
            }),
        ],
    ),
    told(
        "a directory in the place of the file",
        plain,
        &[
            gone(|w| {
                w.remove("f");
                w.directory("f");
            }),
            is("1", |w| {
                w.remove_all("f");
                w.write("f", "1");
            }),
        ],
    ),
    mounted(
        "a single file that is mounted, as into a container",
        |w| {
            w.directory("there");
            w.write("there/g", "0");
            w.write("f", "");
            w.bind("there/g", "f");
        },
        &[
            is("1", |w| w.write("there/g", "1")),
            is("12", |w| w.append("there/g", "2")),
            is("3", |w| w.write("f", "3")),
        ],
    ),
    mounted(
        "a file mounted over the path, and unmounted",
        |w| {
            w.write("f", "below");
            w.write("g", "above");
        },
        &[
            is("above", |w| w.bind("g", "f")),
            is("written", |w| w.write("g", "written")),
            is("below", |w| w.unmount("f")),
            is("1", |w| w.write("f", "1")),
        ],
    ),
    mounted(
        "a file system mounted over a directory on the way, and unmounted",
        |w| {
            w.directory("a/b");
            w.write("a/b/f", "below");
            w.watch("a/b/f");
        },
        &[
            gone(|w| w.tmpfs("a")),
            is("1", |w| {
                w.directory("a/b");
                w.write("a/b/f", "1");
            }),
            is("2", |w| w.replace("a/b/f", "2")),
            is("below", |w| w.unmount("a")),
            is("3", |w| w.write("a/b/f", "3")),
        ],
    ),
    mounted(
        "a directory that is mounted twice",
        |w| {
            w.directory("there");
            w.directory("here with a blank");
            w.write("there/f", "0");
            w.watch("here with a blank/f");
        },
        &[
            is("0", |w| w.bind("there", "here with a blank")),
            is("1", |w| w.write("there/f", "1")),
            is("2", |w| w.replace("there/f", "2")),
            gone(|w| w.unmount("here with a blank")),
        ],
    ),
    Scenario {
        name: "a file of which nothing but its content changes",
        needs: &[],
        told: false,
        set_up: World::process,
        steps: &[is("sleep\n", World::go_on)],
    },
    through_fuse(
        "changed on the other side of FUSE",
        behind_fuse,
        &[
            is("1", |w| w.write("real/f", "1")),
            is("2", |w| w.replace("real/f", "2")),
            gone(|w| w.remove("real/f")),
            is("3", |w| w.write("real/f", "3")),
        ],
    ),
    through_fuse(
        "changed on this side of FUSE",
        behind_fuse,
        &[is("1", |w| w.write("shown/f", "1")), is("2", |w| w.replace("shown/f", "2"))],
    ),
    through_fuse(
        "a link on the other side of FUSE",
        |w| {
            behind_fuse(w);
            w.write("real/g", "1");
        },
        &[
            is("1", |w| w.symlink("g", "real/f")),
            is("2", |w| w.write("real/g", "2")),
            is("3", |w| w.write("shown/g", "3")),
        ],
    ),
    through_fuse(
        "FUSE that comes and goes",
        |w| {
            behind_fuse(w);
            w.unmount("shown");
        },
        &[
            is("0", |w| w.bindfs("real", "shown")),
            is("1", |w| w.write("real/f", "1")),
            gone(|w| w.unmount("shown")),
            is("2", |w| w.write("shown/f", "2")),
        ],
    ),
];
