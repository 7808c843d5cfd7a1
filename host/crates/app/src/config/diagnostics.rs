//! Diagnostics: errors of a configuration file with their positions, and how they are displayed.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use reloader_util::sanitize::sanitize;
use std::{fmt, ops::Range, path::PathBuf};

/// Maximum number of diagnostics in one [`ConfigError`].
const MAX_DIAGNOSTICS: usize = 50;
/// Maximum length of a line that is displayed with a diagnostic, in bytes.
const MAX_LINE_BYTES: usize = 400;

/// Range of bytes in the text of the configuration file.
pub(crate) type Span = Range<usize>;

/// Error at a position of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    pub(crate) span: Span,
    pub(crate) message: String,
}

/// Invalid setting that is found after parsing, e.g. by the plugin's JSON Schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSetting {
    /// Path of the setting in the configuration file, table by table.
    pub path: Vec<String>,
    /// Reason why the setting is invalid, as a message for the operator.
    pub message: String,
    /// Set if the same setting may be valid later: the system lacks a resource, or a file system has not answered.
    pub is_temporary: bool,
}

impl InvalidSetting {
    /// Returns the error of a setting that stays invalid until the configuration changes.
    #[must_use]
    pub fn new(path: Vec<String>, message: String) -> Self {
        Self { path, message, is_temporary: false }
    }
}

/// Error of a configuration file: up to 50 diagnostics, ordered by position.
#[derive(Debug)]
pub struct ConfigError {
    path: PathBuf,
    text: String,
    diagnostics: Vec<Diagnostic>,
    is_temporary: bool,
}

impl ConfigError {
    pub(crate) fn new(path: PathBuf, text: &str, mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
        diagnostics.dedup();
        diagnostics.truncate(MAX_DIAGNOSTICS);
        Self { path, text: text.into(), diagnostics, is_temporary: false }
    }

    /// Creates the error of a file that cannot be read.
    pub(crate) fn unreadable(path: PathBuf, why: &dyn fmt::Display) -> Self {
        let message = format!("cannot be read: {why}");
        let diagnostics = vec![Diagnostic { span: 0..0, message }];
        Self { path, text: String::new(), diagnostics, is_temporary: false }
    }

    /// Creates the error of a file whose file system does not answer, or for whose access no thread is available.
    pub(crate) fn no_access(path: PathBuf, why: &dyn fmt::Display) -> Self {
        Self::unreadable(path, why).temporary()
    }

    /// Marks an error that may not occur if the same file is read later.
    pub(crate) fn temporary(self) -> Self {
        Self { is_temporary: true, ..self }
    }

    /// Returns whether the same file may be used later: a file system has not answered, or the system cannot start a
    /// thread.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.is_temporary
    }

    /// Returns the number of diagnostics.
    #[must_use]
    pub fn count(&self) -> usize {
        self.diagnostics.len()
    }

    /// Renders the diagnostics with the lines of the file, in colour if `styled`.
    #[must_use]
    pub fn render(&self, styled: bool) -> String {
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        let path = sanitize(&self.path.display().to_string());
        let shown = self.diagnostics.iter().map(|diagnostic| {
            let message = sanitize(&diagnostic.message);
            if self.text.is_empty()
                || self.line(diagnostic).is_none_or(|line| line.len() > MAX_LINE_BYTES)
            {
                return format!("error: {}", self.line_text(diagnostic));
            }
            let annotation = AnnotationKind::Primary.span(diagnostic.span.clone());
            let snippet = Snippet::source(&self.text).path(&path).annotation(annotation);
            renderer.render(&[Level::ERROR.primary_title(message).element(snippet)])
        });
        shown.collect::<Vec<_>>().join("\n\n")
    }

    /// Returns the diagnostic as one line: `FILE:LINE:COLUMN: MESSAGE`.
    fn line_text(&self, diagnostic: &Diagnostic) -> String {
        let path = self.path.display().to_string();
        let (path, message) = (sanitize(&path), sanitize(&diagnostic.message));
        if self.text.is_empty() {
            return format!("{path}: {message}");
        }
        let before = &self.text[..self.text.floor_char_boundary(diagnostic.span.start)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{path}:{line}:{column}: {message}")
    }

    /// Returns the line of the file in which a diagnostic starts.
    fn line(&self, diagnostic: &Diagnostic) -> Option<&str> {
        let start = self.text.get(..diagnostic.span.start)?.rfind('\n').map_or(0, |end| end + 1);
        self.text[start..].lines().next()
    }
}

/// Displays each diagnostic as a line `FILE:LINE:COLUMN: MESSAGE`.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, diagnostic) in self.diagnostics.iter().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(f, "{end}{}", self.line_text(diagnostic))?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
