//! `export!`: exports a source or a validator from the component.

/// Exports a type as the source or the validator of this component.
///
/// ```text
/// export!(MySource: Reload);                   // the world `source`
/// export!(MySource: Reload + RealtimeWatch);   // the world `realtime-source`
/// export!(MyCheck: Validator);                 // the world `validator`
/// ```
///
/// Use the macro exactly once, in a crate with `crate-type = ["cdylib"]`. The component embeds the crate's
/// name, version and description from `Cargo.toml` and the schema of its settings. On other targets than
/// WebAssembly, the macro only checks that the type implements the traits, so that unit tests run natively.
#[macro_export]
macro_rules! export {
    ($validator:ident : Validator) => {
        const _: fn() = || {
            fn validates<T: $crate::Validator>() {}
            validates::<$validator>();
        };
        $crate::__describe!(<$validator as $crate::Validator>::Config);

        #[cfg(target_family = "wasm")]
        const _: () = {
            use $crate::guest::bindings::{
                source::reloader::plugin::types,
                validating::exports::reloader::plugin::validate,
            };

            struct Component;

            ::std::thread_local! {
                static SLOT: $crate::guest::Slot<$validator> =
                    const { $crate::guest::Slot::empty() };
            }

            impl validate::Guest for Component {
                fn open(settings: String) -> Result<(), types::Failure> {
                    SLOT.with(|slot| slot.open_validator(&settings))
                }
                fn validate(
                    value: types::Snapshot,
                    previous: Option<types::Snapshot>,
                ) -> Result<validate::Validation, types::Failure> {
                    SLOT.with(|slot| slot.validate(value, previous))
                }
            }

            $crate::guest::bindings::validating::export!(
                Component with_types_in $crate::guest::bindings::validating
            );
        };
    };
    ($source:ident : Reload) => {
        $crate::__export!($source {});
    };
    ($source:ident : Reload + RealtimeWatch) => {
        $crate::__export!($source {
            impl $crate::guest::bindings::watching::exports::reloader::plugin::watch::Guest
                for Component
            {
                fn arm(known: Option<String>) -> Result<(), types::Failure> {
                    SLOT.with(|slot| slot.arm(known))
                }
                fn next() -> Result<types::Event, types::Failure> {
                    SLOT.with(|slot| slot.next())
                }
            }

            $crate::guest::bindings::watching::export!(
                Component with_types_in $crate::guest::bindings::watching
            );
        });
        const _: fn() = || {
            fn watches<T: $crate::RealtimeWatch>() {}
            watches::<$source>();
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($source:ident { $($watch:tt)* }) => {
        const _: fn() = || {
            fn reloads<T: $crate::Reload>() {}
            reloads::<$source>();
        };
        $crate::__describe!(<$source as $crate::Reload>::Config);

        #[cfg(target_family = "wasm")]
        const _: () = {
            use $crate::guest::bindings::source::reloader::plugin::types;

            struct Component;

            ::std::thread_local! {
                static SLOT: $crate::guest::Slot<$source> =
                    const { $crate::guest::Slot::empty() };
            }

            impl $crate::guest::bindings::source::exports::reloader::plugin::reload::Guest
                for Component
            {
                fn open(settings: String) -> Result<(), types::Failure> {
                    SLOT.with(|slot| slot.open(&settings))
                }
                fn reload(known: Option<String>) -> Result<types::Outcome, types::Failure> {
                    SLOT.with(|slot| slot.reload(known))
                }
            }

            $crate::guest::bindings::source::export!(
                Component with_types_in $crate::guest::bindings::source
            );

            $($watch)*
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __describe {
    ($config:ty) => {
        /// Plugin description. A host reads it without executing the component.
        #[cfg(target_family = "wasm")]
        const _: () = {
            use $crate::schema::Fragment;
            const DESCRIPTION: Fragment = Fragment::Join(&[
                Fragment::Text("{\"sdk\":"),
                Fragment::Quoted($crate::VERSION),
                Fragment::Text(",\"name\":"),
                Fragment::Quoted(env!("CARGO_PKG_NAME")),
                Fragment::Text(",\"version\":"),
                Fragment::Quoted(env!("CARGO_PKG_VERSION")),
                Fragment::Text(",\"description\":"),
                Fragment::Quoted(env!("CARGO_PKG_DESCRIPTION")),
                Fragment::Text(",\"settings\":"),
                <$config as $crate::schema::Schema>::SCHEMA,
                Fragment::Text("}}"),
            ]);
            #[used]
            #[unsafe(link_section = "reloader:plugin")]
            static SECTION: [u8; DESCRIPTION.len()] = DESCRIPTION.bytes();
        };
    };
}
