//! Guides: runs each guide from its first to its last command.

use crate::{
    markdown::{blocks, documents, read},
    run_console_blocks::run_document,
};

/// Documents whose commands the tests run: paths relative to `docs/`.
const GUIDES: [&str; 19] = [
    "../README.md",
    "operate/access.md",
    "operate/configuration.md",
    "operate/containers.md",
    "operate/delivery.md",
    "operate/first-run.md",
    "operate/http-api.md",
    "operate/monitoring.md",
    "operate/reload.md",
    "operate/troubleshooting.md",
    "operate/validation-and-rollback.md",
    "reference/output.md",
    "reference/templates.md",
    "write-a-plugin/first-plugin.md",
    "write-a-plugin/settings-and-grants.md",
    "write-a-plugin/testing.md",
    "write-a-plugin/validators.md",
    "write-a-plugin/watching.md",
    "migrate/from-consul-template.md",
];

e2e::cases! {
    /// The commands of each guide print the output that the guide shows.
    mod guide_works: run_document {
        readme(GUIDES[0]);
        access(GUIDES[1]);
        configuration(GUIDES[2]);
        containers(GUIDES[3]);
        delivery(GUIDES[4]);
        first_run(GUIDES[5]);
        http_api(GUIDES[6]);
        monitoring(GUIDES[7]);
        reload(GUIDES[8]);
        troubleshooting(GUIDES[9]);
        validation_and_rollback(GUIDES[10]);
        output(GUIDES[11]);
        templates(GUIDES[12]);
        first_plugin(GUIDES[13]);
        settings_and_grants(GUIDES[14]);
        plugin_tests(GUIDES[15]);
        validators(GUIDES[16]);
        watching(GUIDES[17]);
        from_consul_template(GUIDES[18]);
    }
}

/// Each document with `console` blocks is in [`GUIDES`].
#[test]
fn each_guide_is_run() {
    let with_commands = documents()
        .into_iter()
        .filter(|document| blocks(&read(document)).iter().any(|block| block.language == "console"));
    let listed = GUIDES.map(|guide| match guide.strip_prefix("../") {
        Some(root) => root.to_owned(),
        None => format!("docs/{guide}"),
    });
    for document in with_commands {
        let name = document.display().to_string();
        assert!(listed.contains(&name), "{name} has `console` blocks but is not in `GUIDES`");
    }
}
