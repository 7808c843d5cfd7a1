//! Functions that build the scenarios and the steps of a scenario.

use super::{
    scenario::{Need, Scenario, Step, Then},
    world::World,
};

/// Step after which the watched path contains `content`.
pub(super) const fn content(content: &'static str, act: fn(&mut World)) -> Step {
    Step { then: Then::Is(content), act }
}

/// Step after which the watched path names no readable file.
pub(super) const fn missing(act: fn(&mut World)) -> Step {
    Step { then: Then::Gone, act }
}

/// Scenario on a local file system, with kernel events.
pub(super) const fn local(
    name: &'static str,
    set_up: fn(&mut World),
    steps: &'static [Step],
) -> Scenario {
    Scenario { name, needs: &[], kernel_events: true, set_up, steps }
}

/// Scenario that mounts local file systems. The kernel reports every change.
pub(super) const fn mounted(
    name: &'static str,
    set_up: fn(&mut World),
    steps: &'static [Step],
) -> Scenario {
    Scenario { name, needs: &[Need::Mount], kernel_events: true, set_up, steps }
}

/// Scenario on a FUSE file system, which needs polling.
pub(super) const fn fuse(
    name: &'static str,
    set_up: fn(&mut World),
    steps: &'static [Step],
) -> Scenario {
    Scenario { name, needs: &[Need::Bindfs], kernel_events: false, set_up, steps }
}

/// Sets up a regular file.
pub(super) fn plain_file(w: &mut World) {
    w.write("f", "0");
}
