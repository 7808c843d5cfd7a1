//! Schemas of the standard library's types, taken from `schemars`.

use proc_macro2::TokenStream;
use quote::quote;
use std::collections::BTreeMap;

/// One `impl Schema` for each type in the table.
pub(crate) fn expand() -> TokenStream {
    let mut all = TokenStream::new();
    macro_rules! table {
        ($($type:ty),* $(,)?) => {$({
            let schema = fragment(schemars::schema_for!($type).into());
            all.extend(quote! {
                impl Schema for $type {
                    const SCHEMA: Fragment = Fragment::Text(#schema);
                }
            });
        })*};
    }
    table!(bool, String, u8, u16, u32, u64, i8, i16, i32, i64, f32, f64, std::path::PathBuf);
    all
}

/// A schema as a part of another one: without the dialect and the title that only a root has, and
/// without its closing brace, so that a description can follow.
fn fragment(schema: serde_json::Value) -> String {
    let mut members: BTreeMap<String, serde_json::Value> = match schema {
        serde_json::Value::Object(members) => members.into_iter().collect(),
        _ => BTreeMap::new(),
    };
    members.remove("$schema");
    members.remove("title");
    let text = serde_json::Value::Object(members.into_iter().collect()).to_string();
    text[..text.len() - 1].to_owned()
}
