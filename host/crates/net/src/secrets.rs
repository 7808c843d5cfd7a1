//! Secrets: where they are referred to, what they are, and that they are not shown.
//!
//! `${env:NAME}` stands for a variable of the host's environment, `${file:PATH}` for the content of a
//! file, without the line end that it may end with. `$${` stands for `${`.

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

/// Where a secret is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// In a variable of the host's environment.
    Env(String),
    /// In a file.
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

/// A secret in a file may have so many bytes.
const FILE_MAX: u64 = 64 << 10;

impl Reference {
    /// The secret, now.
    ///
    /// # Errors
    ///
    /// When there is none, in words that name the reference and not the secret.
    fn secret(&self) -> Result<String, String> {
        match self {
            Self::Env(name) => match env::var(name) {
                Ok(secret) if secret.is_empty() => Err(format!("the variable `{name}` is empty")),
                Ok(secret) => Ok(secret),
                Err(env::VarError::NotPresent) => Err(format!("there is no variable `{name}`")),
                Err(env::VarError::NotUnicode(_)) => {
                    Err(format!("the variable `{name}` is not text"))
                }
            },
            Self::File(path) => read(path).map_err(|why| format!("`{}` {why}", path.display())),
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    // Before it is opened: opening a pipe waits for who writes to it.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err("is not a file".into());
    }
    let mut secret = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX + 1).read_to_string(&mut secret))
        .map_err(failed)?;
    if secret.len() as u64 > FILE_MAX {
        return Err(format!("is longer than a secret may be: {FILE_MAX} bytes"));
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

/// A part of a text with references.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Secret(Reference),
}

fn parts(text: &str) -> Result<Vec<Part<'_>>, String> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            parts.extend([Part::Text(&rest[..at - 1]), Part::Text("${")]);
            rest = &rest[at + 2..];
            continue;
        }
        parts.push(Part::Text(&rest[..at]));
        let whole = "expected `${env:NAME}` or `${file:PATH}`; `$${` stands for `${`";
        let (inside, after) = rest[at + 2..].split_once('}').ok_or(whole)?;
        parts.push(Part::Secret(match inside.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Reference::Env(name.into()),
            Some(("file", path)) if !path.is_empty() => Reference::File(path.into()),
            _ => return Err(whole.into()),
        }));
        rest = after;
    }
    parts.push(Part::Text(rest));
    parts.retain(|part| *part != Part::Text(""));
    Ok(parts)
}

/// The secrets of one source, as they were when they were looked up. Each is looked up once, so that all
/// that is made of it fits together.
#[derive(Default)]
pub struct Secrets {
    found: BTreeMap<Reference, String>,
    /// All that is not to be shown, longest first.
    hidden: BTreeSet<Hidden>,
}

#[derive(PartialEq, Eq)]
struct Hidden(String);

impl Ord for Hidden {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.0.len().cmp(&self.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Hidden {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Shorter texts are shown: to hide a letter would hide nothing, and make every sentence unreadable.
const HIDDEN_MIN: usize = 3;

impl Secrets {
    /// A text with the secrets that it refers to.
    ///
    /// # Errors
    ///
    /// What is wrong with a reference, or why there is no such secret.
    pub fn reveal(&mut self, text: &str) -> Result<String, String> {
        self.put_together(parts(text)?, false)
    }

    /// The same, for a text that is a secret as a whole: it is not shown from here on.
    ///
    /// # Errors
    ///
    /// As [`reveal`](Self::reveal).
    pub fn reveal_hidden(&mut self, text: &str) -> Result<String, String> {
        let secret = self.reveal(text)?;
        self.hide(&secret);
        Ok(secret)
    }

    /// Settings with the secrets that they refer to. What is marked as a secret is not shown from here
    /// on, and no password in a URL.
    ///
    /// # Errors
    ///
    /// One for each setting that refers to something that is not there.
    pub fn reveal_all(
        &mut self,
        schema: &Value,
        settings: &Map<String, Value>,
    ) -> Result<Map<String, Value>, Vec<SettingError>> {
        let mut errors = Vec::new();
        let revealed = self.members("", &Place::all(schema), false, settings, &mut errors);
        if errors.is_empty() { Ok(revealed) } else { Err(errors) }
    }

    fn members(
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
                (name.clone(), self.walk(&at, &place.member(name), secret, value, errors))
            })
            .collect()
    }

    fn walk(
        &mut self,
        at: &str,
        place: &Place<'_>,
        secret: bool,
        value: &Value,
        errors: &mut Vec<SettingError>,
    ) -> Value {
        let secret = secret || place.is_secret();
        match value {
            Value::Object(members) => self.members(at, place, secret, members, errors).into(),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| self.walk(at, &place.item(index), secret, item, errors))
                .collect(),
            Value::String(text) => {
                let is_url = place.may_be_url();
                let parts = parts(text);
                let is_secret = matches!(parts.as_deref(), Ok([Part::Secret(_)]));
                let refers = parts.iter().flatten().any(|part| matches!(part, Part::Secret(_)));
                match parts.and_then(|parts| self.put_together(parts, is_url)) {
                    Ok(text) => {
                        if secret {
                            self.hide(&text);
                        }
                        if is_url {
                            self.hide_password(&text);
                        }
                        if is_url && is_secret {
                            self.hide_way(&text);
                        }
                        if refers { typed(place, text) } else { text.into() }
                    }
                    Err(why) => {
                        let text = format!("setting `{at}`: {why}");
                        errors.push(SettingError::new(text).about(at));
                        Value::Null
                    }
                }
            }
            Value::Number(number) if secret => {
                self.hide(&number.to_string());
                value.clone()
            }
            other => other.clone(),
        }
    }

    /// A secret that is a part of a URL cannot end it early: what means something there is encoded.
    fn put_together(&mut self, parts: Vec<Part<'_>>, in_url: bool) -> Result<String, String> {
        let encode = in_url && parts.len() > 1;
        parts
            .into_iter()
            .map(|part| match part {
                Part::Text(text) => Ok(text.to_owned()),
                Part::Secret(reference) => {
                    let secret = self.look_up(reference)?;
                    Ok(if encode { encoded(&secret) } else { secret })
                }
            })
            .collect()
    }

    fn look_up(&mut self, reference: Reference) -> Result<String, String> {
        if let Some(secret) = self.found.get(&reference) {
            return Ok(secret.clone());
        }
        let secret = reference.secret().map_err(|why| format!("{reference}: {why}"))?;
        self.hide(&secret);
        self.found.insert(reference, secret.clone());
        Ok(secret)
    }

    /// Does not show this from here on, nor as it stands in a URL or in a header.
    fn hide(&mut self, secret: &str) {
        // Of several lines, such as a key, each: they may be shown one by one.
        for line in secret.lines().filter(|line| line.len() >= HIDDEN_MIN) {
            // As it is, in a URL, in a log, in a program's words, and in JSON.
            let json = Value::from(line).to_string();
            let forms = [
                line.to_owned(),
                encoded(line),
                sanitize(line),
                // As a host's name.
                line.to_ascii_lowercase(),
                line.escape_debug().to_string(),
                json.trim_matches('"').to_owned(),
            ];
            self.hidden.extend(forms.map(Hidden));
        }
    }

    fn hide_password(&mut self, url: &str) {
        let Ok(url) = url::Url::parse(url) else { return };
        if let Some(password) = url.password() {
            self.hide(password);
            let plain = percent_encoding::percent_decode_str(password).decode_utf8_lossy();
            self.hide(&plain);
        }
    }

    /// Of a URL that is a secret as a whole, the host is shown: it is what is granted.
    fn hide_way(&mut self, url: &str) {
        let Ok(url) = url::Url::parse(url) else { return };
        for part in [url.path().trim_matches('/'), url.query().unwrap_or_default()] {
            self.hide(part);
        }
    }

    /// A text without what is not to be shown.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut shown = Cow::Borrowed(text);
        for Hidden(secret) in &self.hidden {
            if shown.contains(secret) {
                shown = shown.replace(secret, "***").into();
            }
        }
        shown
    }

    /// The files that were looked into.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.found.keys().filter_map(|reference| match reference {
            Reference::File(path) => Some(path.as_path()),
            Reference::Env(_) => None,
        })
    }

    /// Looks whether the files hold other secrets by now.
    ///
    /// # Errors
    ///
    /// When one cannot be read, which may be about to be replaced.
    pub fn are_outdated(&self) -> Result<bool, String> {
        let mut lost = Ok(false);
        for (reference, known) in &self.found {
            if !matches!(reference, Reference::File(_)) {
                continue;
            }
            match reference.secret() {
                Ok(secret) if secret != *known => return Ok(true),
                Ok(_) => {}
                Err(why) => lost = Err(format!("{reference}: {why}")),
            }
        }
        lost
    }
}

fn encoded(secret: &str) -> String {
    utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string()
}

/// How many there are, and nothing more.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.found.len())
    }
}

#[cfg(test)]
mod tests;
