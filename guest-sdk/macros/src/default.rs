//! Conversion of `#[setting(default = …)]` literals to JSON.

use serde_json::Value;
use syn::{Expr, ExprArray, ExprLit, ExprUnary, Lit, UnOp, spanned::Spanned};

/// Converts a literal to JSON: a string, number, boolean, or an array of those.
pub(crate) fn json(expr: &Expr) -> syn::Result<Value> {
    match expr {
        Expr::Lit(ExprLit { lit, .. }) => literal(lit),
        Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr: inner, .. }) => match json(inner)? {
            Value::Number(number) => number
                .to_string()
                .parse::<serde_json::Number>()
                .and_then(|_| serde_json::from_str(&format!("-{number}")))
                .map_err(|error| syn::Error::new(expr.span(), error)),
            _ => Err(not_a_literal(expr)),
        },
        Expr::Array(ExprArray { elems, .. }) => {
            elems.iter().map(json).collect::<syn::Result<_>>().map(Value::Array)
        }
        _ => Err(not_a_literal(expr)),
    }
}

fn literal(lit: &Lit) -> syn::Result<Value> {
    let number = |digits: &str| {
        serde_json::from_str(digits).map_err(|error| syn::Error::new(lit.span(), error))
    };
    match lit {
        Lit::Str(text) => Ok(Value::String(text.value())),
        Lit::Bool(value) => Ok(Value::Bool(value.value)),
        Lit::Int(value) => number(value.base10_digits()),
        Lit::Float(value) => number(value.base10_digits()),
        _ => Err(syn::Error::new(
            lit.span(),
            "unsupported default: expected a string, a number, a boolean, or an array of those",
        )),
    }
}

fn not_a_literal(expr: &Expr) -> syn::Error {
    syn::Error::new(
        expr.span(),
        "a default is part of the schema and must be a literal: a string, a number, a boolean, or \
         an array of those",
    )
}
