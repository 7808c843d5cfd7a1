//! The macros behind `guest_sdk::settings`. Use them through that crate.
//!
//! A plugin's schema has to stand in the component's bytes, so that a host can show it and decide
//! what to grant without running a stranger's code. Code that builds a schema when it runs comes too
//! late for that, so these macros write it down while the plugin is compiled: what a standard type
//! looks like is asked of `schemars` here, inside the compiler, and the pieces are joined as constants.

mod default;
mod field;
mod schema;
mod standard;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a struct or an enum usable as a plugin's settings. Documented in `guest_sdk`.
#[proc_macro_attribute]
pub fn settings(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as DeriveInput);
    schema::expand(attribute.into(), item).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Implements `Schema` for types of the standard library, as `schemars` describes them.
#[doc(hidden)]
#[proc_macro]
pub fn standard_schemas(_: TokenStream) -> TokenStream {
    standard::expand().into()
}
