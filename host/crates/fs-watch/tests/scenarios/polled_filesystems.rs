//! File systems without kernel events: pseudo files and FUSE.

use super::{
    scenario::Scenario,
    scenario_constructors::{content, fuse, missing},
    world::World,
};

/// Sets up the directory `real` and its FUSE export `exported`, which contains the watched path.
fn fuse_export(w: &mut World) {
    w.create_dir("real");
    w.create_dir("exported");
    w.write("real/f", "0");
    w.mount_bindfs("real", "exported");
    w.watch("exported/f");
}

pub(super) const SCENARIOS: &[Scenario] = &[
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
