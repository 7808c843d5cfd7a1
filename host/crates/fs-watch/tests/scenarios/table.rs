//! Table of the scenarios.

use super::{Need, Scenario, Step, Then, World};
use std::{thread, time::Duration};

/// Step after which the watched path contains `content`.
const fn content(content: &'static str, act: fn(&mut World)) -> Step {
    Step { then: Then::Is(content), act }
}

/// Step after which the watched path names no readable file.
const fn missing(act: fn(&mut World)) -> Step {
    Step { then: Then::Gone, act }
}

/// Scenario on a local file system, with kernel events.
const fn local(name: &'static str, set_up: fn(&mut World), steps: &'static [Step]) -> Scenario {
    Scenario { name, needs: &[], kernel_events: true, set_up, steps }
}

/// Scenario with local mounts, with kernel events.
const fn mounted(name: &'static str, set_up: fn(&mut World), steps: &'static [Step]) -> Scenario {
    Scenario { name, needs: &[Need::Mount], kernel_events: true, set_up, steps }
}

/// Scenario on a FUSE file system, which needs polling.
const fn fuse(name: &'static str, set_up: fn(&mut World), steps: &'static [Step]) -> Scenario {
    Scenario { name, needs: &[Need::Bindfs], kernel_events: false, set_up, steps }
}

/// Sets up an empty directory.
fn no_file(_: &mut World) {}

/// Sets up a regular file.
fn plain_file(w: &mut World) {
    w.write("f", "0");
}

/// Sets up the directory `real` and its FUSE export `exported`, which contains the watched path.
fn fuse_export(w: &mut World) {
    w.create_dir("real");
    w.create_dir("exported");
    w.write("real/f", "0");
    w.mount_bindfs("real", "exported");
    w.watch("exported/f");
}

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
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
        "write through a hard link",
        plain_file,
        &[content("1", |w| {
            w.hard_link("f", "g");
            w.write("g", "1");
        })],
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
        "Kubernetes volume",
        |w| {
            w.publish_volume("..1", "1");
            w.symlink("..data/f", "f");
        },
        &[
            content("2", |w| {
                w.publish_volume("..2", "2");
                w.remove_all("..1");
            }),
            content("3", |w| {
                w.publish_volume("..3", "3");
                w.remove_all("..2");
            }),
            content("4", |w| w.write("..3/f", "4")),
        ],
    ),
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
    Scenario {
        name: "pseudo file without metadata changes",
        needs: &[],
        kernel_events: false,
        set_up: World::start_process,
        steps: &[content("sleep\n", World::rename_process)],
    },
    fuse(
        "change of a FUSE backing file",
        fuse_export,
        &[
            content("1", |w| w.write("real/f", "1")),
            content("2", |w| w.replace("real/f", "2")),
            missing(|w| w.remove("real/f")),
            content("3", |w| w.write("real/f", "3")),
        ],
    ),
    fuse(
        "change through FUSE",
        fuse_export,
        &[
            content("1", |w| w.write("exported/f", "1")),
            content("2", |w| w.replace("exported/f", "2")),
        ],
    ),
    fuse(
        "symbolic link in a FUSE backing directory",
        |w| {
            fuse_export(w);
            w.write("real/g", "1");
        },
        &[
            content("1", |w| w.symlink("g", "real/f")),
            content("2", |w| w.write("real/g", "2")),
            content("3", |w| w.write("exported/g", "3")),
        ],
    ),
    fuse(
        "FUSE mount and unmount",
        |w| {
            fuse_export(w);
            w.unmount("exported");
        },
        &[
            content("0", |w| w.mount_bindfs("real", "exported")),
            content("1", |w| w.write("real/f", "1")),
            missing(|w| w.unmount("exported")),
            content("2", |w| w.write("exported/f", "2")),
        ],
    ),
];
