//! Generated bindings to `wit/`: the world `source`, the additional export `watch` of a realtime source
//! (module `watching`), and the export of a validator (module `validating`). A component with the exports of
//! both `source` and `watching` has the world `realtime-source`.
#![allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, reason = "generated code")]

pub mod source {
    wit_bindgen::generate!({
        path: "../wit",
        world: "source",
        pub_export_macro: true,
    });
}

pub mod validating {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package reloader:sdk;
            world validating {
                export reloader:plugin/validate@0.1.0;
            }
        ",
        world: "reloader:sdk/validating",
        pub_export_macro: true,
        with: {
            "reloader:plugin/types@0.1.0": super::source::reloader::plugin::types,
        },
    });
}

pub mod watching {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package reloader:sdk;
            world watching {
                export reloader:plugin/watch@0.1.0;
            }
        ",
        world: "reloader:sdk/watching",
        pub_export_macro: true,
        with: {
            "reloader:plugin/types@0.1.0": super::source::reloader::plugin::types,
        },
    });
}
