//! Expansion of `#[settings]`: strict deserialization and the schema constant of one type.

use crate::field::{Setting, documentation};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use serde_json::{Map, Value, json};
use syn::{Data, DataEnum, DeriveInput, Fields, FieldsNamed};

pub(crate) fn expand(attribute: TokenStream, item: DeriveInput) -> syn::Result<TokenStream> {
    if !attribute.is_empty() {
        return Err(syn::Error::new_spanned(attribute, "`settings` takes no arguments"));
    }
    if !item.generics.params.is_empty() {
        return Err(syn::Error::new_spanned(&item.generics, "settings cannot be generic"));
    }
    match &item.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => expand_struct(&item, fields),
            other => Err(syn::Error::new_spanned(other, "settings must have named fields")),
        },
        Data::Enum(data) => expand_enum(&item, data),
        Data::Union(_) => {
            Err(syn::Error::new_spanned(&item, "settings must be a struct or an enum"))
        }
    }
}

/// Expands a struct to an object schema with one property for each field.
fn expand_struct(item: &DeriveInput, fields: &FieldsNamed) -> syn::Result<TokenStream> {
    let name = &item.ident;
    let mut out = item.clone();
    let mut properties = Vec::new();
    let mut required = Vec::new();
    let mut defaults = TokenStream::new();
    let mut serde_attributes = Vec::new();

    for (index, field) in fields.named.iter().enumerate() {
        let setting = Setting::from_field(field)?;
        let comma = if index == 0 { "" } else { "," };
        let key = format!("{comma}{}:", json!(setting.name));
        let rest = continuation(&setting.annotations);
        let ty = &field.ty;
        properties.push(quote! {
            ::guest_sdk::schema::Fragment::Text(#key),
            <#ty as ::guest_sdk::schema::Schema>::SCHEMA,
            ::guest_sdk::schema::Fragment::Text(#rest),
        });
        if setting.required {
            required.push(Value::String(setting.name.clone()));
        }
        serde_attributes.push(setting.default.map(|value| {
            let function = format_ident!("__default_{}", setting.name);
            let path = format!("{name}::{function}");
            let text = value.to_string();
            defaults.extend(quote! {
                fn #function() -> #ty { ::guest_sdk::schema::default_from(#text) }
            });
            quote!(#[serde(default = #path)])
        }));
    }

    if let Data::Struct(data) = &mut out.data {
        for (field, attribute) in data.fields.iter_mut().zip(serde_attributes) {
            field.attrs.retain(|a| !a.path().is_ident("setting"));
            if let Some(tokens) = attribute {
                field.attrs.push(syn::parse_quote!(#tokens));
            }
        }
    }

    let head = r#"{"type":"object","additionalProperties":false,"properties":{"#;
    let mut annotations = Map::new();
    if !required.is_empty() {
        annotations.insert("required".into(), Value::Array(required));
    }
    if let Some(text) = documentation(&item.attrs) {
        annotations.insert("description".into(), text.into());
    }
    let tail = continuation(&annotations);
    // Closes `properties`, and omits the closing brace of the object: see `Schema::SCHEMA`.
    let tail = format!("}}{}", &tail[..tail.len() - 1]);
    Ok(quote! {
        #[derive(::guest_sdk::serde::Deserialize)]
        #[serde(crate = "::guest_sdk::serde", deny_unknown_fields)]
        #out

        impl #name { #defaults }

        impl ::guest_sdk::schema::Schema for #name {
            const SCHEMA: ::guest_sdk::schema::Fragment = ::guest_sdk::schema::Fragment::Join(&[
                ::guest_sdk::schema::Fragment::Text(#head),
                #(#properties)*
                ::guest_sdk::schema::Fragment::Text(#tail),
            ]);
        }
    })
}

/// Expands an enum of unit variants to a string schema with kebab-case names.
fn expand_enum(item: &DeriveInput, data: &DataEnum) -> syn::Result<TokenStream> {
    let name = &item.ident;
    let mut names = Vec::new();
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(syn::Error::new_spanned(
                variant,
                "a variant of a settings enum cannot have fields",
            ));
        }
        names.push(Value::String(kebab(&variant.ident.to_string())));
    }
    let schema = json!({ "type": "string", "enum": names }).to_string();
    let schema = &schema[..schema.len() - 1];
    Ok(quote! {
        #[derive(::guest_sdk::serde::Deserialize)]
        #[serde(crate = "::guest_sdk::serde", rename_all = "kebab-case")]
        #item

        impl ::guest_sdk::schema::Schema for #name {
            const SCHEMA: ::guest_sdk::schema::Fragment =
                ::guest_sdk::schema::Fragment::Text(#schema);
        }
    })
}

/// Returns additional members and the closing brace of a partially written, non-empty object.
fn continuation(members: &Map<String, Value>) -> String {
    if members.is_empty() {
        return "}".into();
    }
    format!(",{}", &Value::Object(members.clone()).to_string()[1..])
}

/// Converts a name to kebab-case as serde does: `LongPoll` becomes `long-poll`.
fn kebab(name: &str) -> String {
    let mut out = String::new();
    for (index, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            out.push('-');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}
