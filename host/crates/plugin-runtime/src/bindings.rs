//! Bindings to `wit/`, generated. Private to `plugin`.
#![allow(missing_docs, unreachable_pub, unused_qualifications, reason = "generated code")]

wasmtime::component::bindgen!({
    path: "../../../wit",
    world: "realtime-source",
    imports: {
        "reloader:plugin/log": trappable,
        default: async | trappable,
    },
    exports: { default: async },
    with: {
        "reloader:plugin/files.file-watch": crate::imports::WatchedFile,
        "reloader:plugin/endpoint.connection": crate::imports::Connection,
    },
});

/// What a validator exports, with the types of the others.
pub mod validator {
    wasmtime::component::bindgen!({
        path: "../../../wit",
        world: "validator",
        exports: { default: async },
        with: {
            "reloader:plugin/types": super::reloader::plugin::types,
            "reloader:plugin/log": super::reloader::plugin::log,
        },
    });
}
