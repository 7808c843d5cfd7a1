//! Volume of a Kubernetes ConfigMap or Secret: an update replaces the symbolic link `..data`.

use super::{
    scenario::Scenario,
    scenario_constructors::{content, local},
};

pub(super) const SCENARIOS: &[Scenario] = &[local(
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
)];
