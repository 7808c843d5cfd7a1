//! Secrets: references in settings, their values, and redaction.
//!
//! `${env:NAME}` refers to an environment variable of the host. `${file:PATH}` refers to the content of a file,
//! without a trailing line end. `$${` is an escaped `${`.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reloader_policy::plugin_settings::{SettingError, typed};
use reloader_policy::schema_annotations::Place;
use reloader_util::sanitize::sanitize;
use serde_json::{Map, Value};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    env, fmt,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

/// Reference to a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// Environment variable of the host.
    Env(String),
    /// File.
    File(PathBuf),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "${{env:{name}}}"),
            Self::File(path) => write!(f, "${{file:{}}}", path.display()),
        }
    }
}

/// Maximum size of a secret file, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

impl Reference {
    /// Reads the secret.
    ///
    /// # Errors
    ///
    /// Returns a reason if there is no such secret. It does not contain the secret.
    fn read(&self) -> Result<String, String> {
        match self {
            Self::Env(name) => match env::var(name) {
                Ok(secret) if secret.is_empty() => {
                    Err(format!("environment variable `{name}` is empty"))
                }
                Ok(secret) => Ok(secret),
                Err(env::VarError::NotPresent) => {
                    Err(format!("environment variable `{name}` is not set"))
                }
                Err(env::VarError::NotUnicode(_)) => {
                    Err(format!("environment variable `{name}` is not valid UTF-8"))
                }
            },
            Self::File(path) => {
                read_file(path).map_err(|reason| format!("`{}` {reason}", path.display()))
            }
        }
    }
}

/// Reads a secret file. The error is a predicate for the path.
fn read_file(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    // Checked before opening: opening a FIFO blocks until another process opens it for writing.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err("is not a regular file".into());
    }
    let mut secret = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut secret))
        .map_err(failed)?;
    if secret.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is larger than {MAX_FILE_BYTES} bytes"));
    }
    if secret.ends_with('\n') {
        secret.pop();
        if secret.ends_with('\r') {
            secret.pop();
        }
    }
    if secret.is_empty() {
        return Err("is empty".into());
    }
    Ok(secret)
}

/// Part of a text with references.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Secret(Reference),
}

/// Splits a text into literal parts and references.
fn parse_parts(text: &str) -> Result<Vec<Part<'_>>, String> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            parts.extend([Part::Text(&rest[..at - 1]), Part::Text("${")]);
            rest = &rest[at + 2..];
            continue;
        }
        parts.push(Part::Text(&rest[..at]));
        let syntax = "expected `${env:NAME}` or `${file:PATH}`; write `$${` for a literal `${`";
        let (inside, after) = rest[at + 2..].split_once('}').ok_or(syntax)?;
        parts.push(Part::Secret(match inside.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Reference::Env(name.into()),
            Some(("file", path)) if !path.is_empty() => Reference::File(path.into()),
            _ => return Err(syntax.into()),
        }));
        rest = after;
    }
    parts.push(Part::Text(rest));
    parts.retain(|part| *part != Part::Text(""));
    Ok(parts)
}

/// Secrets of one source. Each is read once, so that all settings use the same version of it.
#[derive(Default)]
pub struct Secrets {
    values: BTreeMap<Reference, String>,
    /// Texts to redact, longest first.
    redacted: BTreeSet<RedactedText>,
}

/// Text to redact, ordered by decreasing length.
#[derive(PartialEq, Eq)]
struct RedactedText(String);

impl Ord for RedactedText {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.0.len().cmp(&self.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for RedactedText {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Minimum size of a redacted text, in bytes. Redacting single letters would make every message unreadable.
const MIN_REDACTED_BYTES: usize = 3;

impl Secrets {
    /// Replaces the references in a text by their secrets.
    ///
    /// # Errors
    ///
    /// Returns a reason if a reference is invalid or has no secret.
    pub fn reveal(&mut self, text: &str) -> Result<String, String> {
        self.resolve(parse_parts(text)?, false)
    }

    /// Replaces the references in a text that is secret as a whole, and registers the result for redaction.
    ///
    /// # Errors
    ///
    /// As [`reveal`](Self::reveal).
    pub fn reveal_hidden(&mut self, text: &str) -> Result<String, String> {
        let secret = self.reveal(text)?;
        self.add_redacted(&secret);
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
        let revealed = self.resolve_object("", &Place::all(schema), false, settings, &mut errors);
        if errors.is_empty() { Ok(revealed) } else { Err(errors) }
    }

    /// Resolves the members of an object. `at` is its path, and `secret` whether it is part of a secret.
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

    /// Resolves a value at the path `at`.
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
                            self.add_redacted(&text);
                        }
                        if is_url {
                            self.redact_url_password(&text);
                        }
                        if is_url && is_secret {
                            self.redact_url_path(&text);
                        }
                        if has_references { typed(place, text) } else { text.into() }
                    }
                    Err(reason) => {
                        let text = format!("setting `{at}`: {reason}");
                        errors.push(SettingError::new(text).about(at));
                        Value::Null
                    }
                }
            }
            Value::Number(number) if secret => {
                self.add_redacted(&number.to_string());
                value.clone()
            }
            other => other.clone(),
        }
    }

    /// Concatenates the parts. A secret inside a URL is percent-encoded, so that it cannot change the structure
    /// of the URL.
    fn resolve(&mut self, parts: Vec<Part<'_>>, in_url: bool) -> Result<String, String> {
        let encode = in_url && parts.len() > 1;
        parts
            .into_iter()
            .map(|part| match part {
                Part::Text(text) => Ok(text.to_owned()),
                Part::Secret(reference) => {
                    let secret = self.get(reference)?;
                    Ok(if encode { percent_encode(&secret) } else { secret })
                }
            })
            .collect()
    }

    /// Returns the secret of a reference, and reads it on first use.
    fn get(&mut self, reference: Reference) -> Result<String, String> {
        if let Some(secret) = self.values.get(&reference) {
            return Ok(secret.clone());
        }
        let secret = reference.read().map_err(|reason| format!("{reference}: {reason}"))?;
        self.add_redacted(&secret);
        self.values.insert(reference, secret.clone());
        Ok(secret)
    }

    /// Registers a secret for redaction, in each form in which it may appear.
    fn add_redacted(&mut self, secret: &str) {
        // The lines of a multi-line secret, such as a key, may appear separately.
        for line in secret.lines().filter(|line| line.len() >= MIN_REDACTED_BYTES) {
            let json = Value::from(line).to_string();
            let forms = [
                line.to_owned(),
                // In a URL.
                percent_encode(line),
                // In a log event.
                sanitize(line),
                // In a host name.
                line.to_ascii_lowercase(),
                // In debug output.
                line.escape_debug().to_string(),
                // In JSON.
                json.trim_matches('"').to_owned(),
            ];
            self.redacted.extend(forms.map(RedactedText));
        }
    }

    fn redact_url_password(&mut self, url: &str) {
        let Ok(url) = url::Url::parse(url) else { return };
        if let Some(password) = url.password() {
            self.add_redacted(password);
            let plain = percent_encoding::percent_decode_str(password).decode_utf8_lossy();
            self.add_redacted(&plain);
        }
    }

    /// Registers path and query of a URL that is secret as a whole. Its host stays visible, because grants name
    /// it.
    fn redact_url_path(&mut self, url: &str) {
        let Ok(url) = url::Url::parse(url) else { return };
        for part in [url.path().trim_matches('/'), url.query().unwrap_or_default()] {
            self.add_redacted(part);
        }
    }

    /// Replaces all registered texts by `***`.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut redacted = Cow::Borrowed(text);
        for RedactedText(secret) in &self.redacted {
            if redacted.contains(secret) {
                redacted = redacted.replace(secret, "***").into();
            }
        }
        redacted
    }

    /// Returns the secret files.
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
    /// Returns a reason if a file cannot be read. It may be in the middle of a replacement.
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

fn percent_encode(secret: &str) -> String {
    utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string()
}

/// Writes only the number of secrets.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.values.len())
    }
}

#[cfg(test)]
mod tests;
