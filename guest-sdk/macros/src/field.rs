//! Parsing of one settings field: its `#[setting(…)]` attributes and its doc comment.

use crate::default;
use serde_json::{Map, Value, json};
use syn::{
    Attribute, Expr, Field, Lit, LitInt, Meta, Token, Type, ext::IdentExt, punctuated::Punctuated,
};

/// Metadata of one settings field. The schema of the field's type is added during expansion.
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) required: bool,
    pub(crate) default: Option<Value>,
    /// Additional members of the field's schema: description, default, annotations such as `x-secret`.
    pub(crate) annotations: Map<String, Value>,
}

impl Setting {
    /// Parses the attributes and the doc comment of a field.
    pub(crate) fn from_field(field: &Field) -> syn::Result<Self> {
        let ident = field
            .ident
            .as_ref()
            .ok_or_else(|| syn::Error::new_spanned(field, "settings must have named fields"))?;
        let mut setting = Setting {
            name: ident.unraw().to_string(),
            required: !is_option(&field.ty),
            default: None,
            annotations: Map::new(),
        };
        if let Some(text) = documentation(&field.attrs) {
            setting.annotations.insert("description".into(), text.into());
        }
        for attribute in field.attrs.iter().filter(|a| a.path().is_ident("setting")) {
            let parts =
                attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)?;
            for part in parts {
                setting.apply(&part)?;
            }
        }
        let grants =
            ["x-connect", "x-read"].iter().any(|name| setting.annotations.contains_key(*name));
        if grants && setting.default.is_some() {
            return Err(syn::Error::new_spanned(
                field,
                "a setting with `connect` or `read` cannot have a default: only values that the \
                 operator sets are granted",
            ));
        }
        Ok(setting)
    }

    /// Applies one argument of `#[setting(…)]` to the JSON Schema of the field.
    fn apply(&mut self, part: &Meta) -> syn::Result<()> {
        let mut annotate = |name: &str, value: Value| self.annotations.insert(name.into(), value);
        match part {
            Meta::Path(path) if path.is_ident("connect") => {
                annotate("x-connect", json!({ "http": 80, "https": 443 }));
            }
            Meta::List(list) if list.path.is_ident("connect") => {
                let schemes =
                    list.parse_args_with(Punctuated::<Scheme, Token![,]>::parse_terminated)?;
                let ports = schemes.into_iter().map(|s| (s.name, s.port.into())).collect();
                annotate("x-connect", Value::Object(ports));
            }
            Meta::Path(path) if path.is_ident("read") => {
                annotate("x-read", true.into());
            }
            Meta::Path(path) if path.is_ident("secret") => {
                annotate("x-secret", true.into());
            }
            Meta::NameValue(pair) if pair.path.is_ident("default") => {
                let value = default::json(&pair.value)?;
                annotate("default", value.clone());
                self.required = false;
                self.default = Some(value);
            }
            other => {
                return Err(syn::Error::new_spanned(
                    other,
                    "expected `connect`, `connect(scheme = port, …)`, `read`, `secret` or `default = …`",
                ));
            }
        }
        Ok(())
    }
}

/// URL scheme with its default port, written as `redis = 6379`.
struct Scheme {
    name: String,
    port: u16,
}

impl syn::parse::Parse for Scheme {
    fn parse(input: syn::parse::ParseStream<'_>) -> syn::Result<Self> {
        let name = syn::Ident::parse_any(input)?.to_string();
        input.parse::<Token![=]>()?;
        let port = input.parse::<LitInt>()?.base10_parse()?;
        Ok(Self { name, port })
    }
}

/// Returns the doc comment with its lines joined. An empty line starts a new paragraph.
pub(crate) fn documentation(attributes: &[Attribute]) -> Option<String> {
    let mut text = String::new();
    for attribute in attributes.iter().filter(|a| a.path().is_ident("doc")) {
        let Meta::NameValue(pair) = &attribute.meta else { continue };
        let Expr::Lit(literal) = &pair.value else { continue };
        let Lit::Str(line) = &literal.lit else { continue };
        match line.value().trim() {
            "" if !text.is_empty() => text.push_str("\n\n"),
            line => {
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push(' ');
                }
                text.push_str(line);
            }
        }
    }
    let text = text.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn is_option(ty: &Type) -> bool {
    matches!(ty, Type::Path(path)
        if path.path.segments.last().is_some_and(|segment| segment.ident == "Option"))
}
