//! Secrets of one source: replaces the references in its settings, and registers the secrets for redaction.

use super::{
    redaction::{Redaction, percent_encode},
    references::{Part, Reference, parse_parts},
};
use reloader_policy::{
    plugin_settings::{SettingError, parse_by_type},
    schema_annotations::Place,
};
use serde_json::{Map, Value};
use std::{borrow::Cow, collections::BTreeMap, fmt, path::Path};
use zeroize::{Zeroize, Zeroizing};

/// Secrets of one source. Each secret is read once, so that all settings use the same version of it. The methods that
/// read secret files block for five seconds at most for each file. The memory of the secrets is overwritten when they
/// are dropped.
#[derive(Default)]
pub struct Secrets {
    values: BTreeMap<Reference, Zeroizing<String>>,
    redaction: Redaction,
}

impl Secrets {
    /// Replaces the references in a text by their secrets.
    ///
    /// # Errors
    ///
    /// Returns the reason if a reference is invalid or its secret cannot be read.
    pub fn reveal(&mut self, text: &str) -> Result<Zeroizing<String>, String> {
        self.resolve(parse_parts(text)?, false)
    }

    /// Replaces the references in a text that is secret as a whole, and registers the resulting text for redaction.
    ///
    /// # Errors
    ///
    /// See [`reveal`](Self::reveal).
    pub fn reveal_hidden(&mut self, text: &str) -> Result<Zeroizing<String>, String> {
        let secret = self.reveal(text)?;
        self.redaction.add(&secret);
        Ok(secret)
    }

    /// Replaces the references in all settings. Registers for redaction the settings that the schema marks as
    /// secret, and passwords in URLs.
    ///
    /// # Errors
    ///
    /// Returns one error for each setting with an invalid reference or a missing secret.
    pub fn reveal_all(
        &mut self,
        schema: &Value,
        settings: &Map<String, Value>,
    ) -> Result<Map<String, Value>, Vec<SettingError>> {
        let mut errors = Vec::new();
        let revealed = self.resolve_object("", &Place::root(schema), false, settings, &mut errors);
        if errors.is_empty() { Ok(revealed) } else { Err(errors) }
    }

    /// Resolves the members of an object. `at` is the path of the object in the settings. `secret` is true if the
    /// schema marks the object or a parent as secret.
    fn resolve_object(
        &mut self,
        at: &str,
        place: &Place<'_>,
        secret: bool,
        members: &Map<String, Value>,
        errors: &mut Vec<SettingError>,
    ) -> Map<String, Value> {
        members
            .iter()
            .map(|(name, value)| {
                let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                (name.clone(), self.resolve_value(&at, &place.member(name), secret, value, errors))
            })
            .collect()
    }

    /// Resolves the value at the path `at` of the settings.
    fn resolve_value(
        &mut self,
        at: &str,
        place: &Place<'_>,
        secret: bool,
        value: &Value,
        errors: &mut Vec<SettingError>,
    ) -> Value {
        let secret = secret || place.is_secret();
        match value {
            Value::Object(members) => {
                self.resolve_object(at, place, secret, members, errors).into()
            }
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| {
                    self.resolve_value(at, &place.item(index), secret, item, errors)
                })
                .collect(),
            Value::String(text) => {
                let is_url = place.may_be_url();
                let parts = parse_parts(text);
                let is_secret = matches!(parts.as_deref(), Ok([Part::Secret(_)]));
                let has_references =
                    parts.iter().flatten().any(|part| matches!(part, Part::Secret(_)));
                match parts.and_then(|parts| self.resolve(parts, is_url)) {
                    Ok(text) => {
                        if secret {
                            self.redaction.add(&text);
                        }
                        if is_url {
                            self.redaction.add_url_password(&text);
                        }
                        if is_url && is_secret {
                            self.redaction.add_url_path(&text);
                        }
                        let text = text.to_string();
                        if has_references { parse_by_type(place, text) } else { text.into() }
                    }
                    Err(reason) => {
                        let text = format!("setting `{at}`: {reason}");
                        errors.push(SettingError::new(text).with_setting(at));
                        Value::Null
                    }
                }
            }
            Value::Number(number) if secret => {
                self.redaction.add(&number.to_string());
                value.clone()
            }
            other => other.clone(),
        }
    }

    /// Concatenates the parts. A secret inside a URL is percent-encoded, so that it cannot change the structure
    /// of the URL.
    fn resolve(&mut self, parts: Vec<Part<'_>>, in_url: bool) -> Result<Zeroizing<String>, String> {
        let encode = in_url && parts.len() > 1;
        let mut texts = Vec::with_capacity(parts.len());
        for part in parts {
            texts.push(match part {
                Part::Text(text) => text.to_owned().into(),
                Part::Secret(reference) => {
                    let secret = self.get(reference)?;
                    if encode { percent_encode(&secret).into() } else { secret }
                }
            });
        }
        // Allocated once at its full size: a growing text would leave copies of the secrets in freed memory.
        let mut all = Zeroizing::new(String::with_capacity(texts.iter().map(|it| it.len()).sum()));
        for text in &texts {
            all.push_str(text);
        }
        Ok(all)
    }

    /// Returns the secret of a reference, and reads it on first use.
    fn get(&mut self, reference: Reference) -> Result<Zeroizing<String>, String> {
        if let Some(secret) = self.values.get(&reference) {
            return Ok(secret.clone());
        }
        let secret = reference.read().map_err(|reason| format!("{reference}: {reason}"))?;
        self.redaction.add(&secret);
        self.values.insert(reference, secret.clone());
        Ok(secret)
    }

    /// Replaces all registered secrets by `***`.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.redaction.redact(text)
    }

    /// Returns the paths of the files that contain the referenced secrets.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.values.keys().filter_map(|reference| match reference {
            Reference::File(path) => Some(path.as_path()),
            Reference::Env(_) => None,
        })
    }

    /// Returns whether a secret file has changed.
    ///
    /// # Errors
    ///
    /// Returns the reason if a file cannot be read, for example while it is being replaced.
    pub fn are_outdated(&self) -> Result<bool, String> {
        let mut result = Ok(false);
        for (reference, known) in &self.values {
            if !matches!(reference, Reference::File(_)) {
                continue;
            }
            match reference.read() {
                Ok(secret) if secret != *known => return Ok(true),
                Ok(_) => {}
                Err(reason) => result = Err(format!("{reference}: {reason}")),
            }
        }
        result
    }
}

/// Overwrites the texts in a value that may contain secrets.
pub fn zeroize_texts(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(zeroize_texts),
        Value::Object(members) => members.values_mut().for_each(zeroize_texts),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Writes only the number of secrets.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.values.len())
    }
}
