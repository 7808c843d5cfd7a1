//! Procedural macros of `guest_sdk::settings`. Use them through that crate.
//!
//! The settings schema is embedded in the component. A host can therefore display it and decide about
//! grants without executing the plugin. This requires the schema at compile time: the macros generate
//! it as constants. Schemas of standard library types come from `schemars`, which runs inside the macro.

mod default;
mod expand_settings;
mod field;
mod std_schemas;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Derives deserialization and the schema of a settings struct or enum. Documented in `guest_sdk`.
#[proc_macro_attribute]
pub fn settings(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as DeriveInput);
    expand_settings::expand(attribute.into(), item)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Implements `Schema` for standard library types, with the schemas that `schemars` generates.
#[doc(hidden)]
#[proc_macro]
pub fn standard_schemas(_: TokenStream) -> TokenStream {
    std_schemas::expand().into()
}
