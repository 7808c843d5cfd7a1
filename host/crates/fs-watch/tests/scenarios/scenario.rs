//! Scenario: steps that change a watched path, and its content after each step.

use super::world::World;

/// Test case: a sequence of changes to a watched path, and the content expected after each change.
#[derive(Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    /// Features that the test machine must support. Otherwise, the scenario is skipped.
    pub needs: &'static [Need],
    /// The kernel reports every change, so that the watcher needs no polling.
    pub kernel_events: bool,
    pub set_up: fn(&mut World),
    pub steps: &'static [Step],
}

/// Change, and the content of the watched path afterwards.
#[derive(Clone, Copy)]
pub struct Step {
    pub then: Then,
    pub act: fn(&mut World),
}

/// Content that the consumer has to read after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Is(&'static str),
    /// No file exists, or the file is not readable.
    Gone,
}

/// Feature that only some machines and users have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Permission to mount file systems.
    Mount,
    /// The program `bindfs`, which exports a directory through FUSE.
    Bindfs,
}

impl Need {
    /// Tests whether the feature is available by using it.
    pub fn is_met(self) -> bool {
        let mut world = World::new();
        match self {
            Self::Mount => {
                world.create_dir("m");
                world.try_mount(&["-t", "tmpfs", "tmpfs"], "m")
            }
            Self::Bindfs => {
                world.create_dir("a");
                world.create_dir("b");
                world.try_bindfs("a", "b")
            }
        }
    }
}
