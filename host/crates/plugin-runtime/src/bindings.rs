//! Generated bindings of `wit/`. Only this crate uses them.
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
        "reloader:plugin/files.file-watch": crate::guest_resource_types::WatchedFile,
        "reloader:plugin/endpoint.connection": crate::guest_resource_types::Connection,
    },
});

/// Bindings of the world `validator`, with the types of the world `realtime-source`.
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
