//! References to secrets in texts, and the secrets that they refer to.
//!
//! `${env:NAME}` refers to an environment variable of the host. `${file:PATH}` refers to the content of a file,
//! without a trailing line end. `$${` is an escaped `${`.

use crate::file_reads::read_file;
use reloader_fs_watch::RegularFileError;
use std::{
    env, fmt,
    path::{Path, PathBuf},
};
use zeroize::{Zeroize, Zeroizing};

/// Reference in a setting to a secret that is stored elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// Name of the environment variable of the host that contains the secret.
    Env(String),
    /// Path of the file that contains the secret.
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
    /// Returns the reason if the secret is missing, empty or not readable. The reason does not contain the secret.
    pub(super) fn read(&self) -> Result<Zeroizing<String>, String> {
        match self {
            Self::Env(name) => match env::var(name) {
                Ok(secret) if secret.is_empty() => {
                    Err(format!("environment variable `{name}` is empty"))
                }
                Ok(secret) => Ok(secret.into()),
                Err(env::VarError::NotPresent) => {
                    Err(format!("environment variable `{name}` is not set"))
                }
                Err(env::VarError::NotUnicode(_)) => {
                    Err(format!("environment variable `{name}` is not valid UTF-8"))
                }
            },
            Self::File(path) => {
                read_secret_file(path).map_err(|reason| format!("`{}` {reason}", path.display()))
            }
        }
    }
}

/// Reads a secret file. The error text continues a sentence that begins with the path, such as "is empty".
fn read_secret_file(path: &Path) -> Result<Zeroizing<String>, String> {
    let bytes = read_file(path, MAX_FILE_BYTES).map_err(|error| match error {
        RegularFileError::Io(error) => format!("cannot be read: {error}"),
        other => format!("is {other}"),
    })?;
    let secret = String::from_utf8(bytes).map_err(|error| {
        error.into_bytes().zeroize();
        "cannot be read: stream did not contain valid UTF-8"
    })?;
    let mut secret = Zeroizing::new(secret);
    // Some editors begin a file with a byte order mark.
    if let Some(unmarked) = secret.strip_prefix('\u{feff}') {
        secret = Zeroizing::new(unmarked.to_owned());
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

/// Part of a setting: literal text, or a reference to a secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Secret(Reference),
}

/// Splits a text into literal parts and references.
pub(super) fn parse_parts(text: &str) -> Result<Vec<Part<'_>>, String> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            parts.extend([Part::Text(&rest[..at - 1]), Part::Text("${")]);
            rest = &rest[at + 2..];
            continue;
        }
        parts.push(Part::Text(&rest[..at]));
        let syntax =
            "expected `${env:NAME}` or `${file:PATH}`; hint: write `$${` for a literal `${`";
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
