//! What is wrong with a configuration file, and where.

use super::spanned_toml::Span;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use reloader_util::sanitize::sanitize;
use std::{fmt, path::PathBuf};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) at: Span,
    pub(crate) message: String,
}

/// A configuration file that cannot be used: all that is wrong with it, in the order of the file.
#[derive(Debug)]
pub struct ConfigError {
    path: PathBuf,
    text: String,
    mistakes: Vec<Mistake>,
}

/// Whoever makes more mistakes than this is told of these first.
const MISTAKES_MAX: usize = 50;
/// A longer line is shown without its text.
const LINE_MAX: usize = 400;

impl ConfigError {
    pub(crate) fn new(path: PathBuf, text: &str, mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by_key(|mistake| mistake.at.start);
        mistakes.dedup();
        mistakes.truncate(MISTAKES_MAX);
        Self { path, text: text.into(), mistakes }
    }

    /// A file that could not even be read.
    pub(crate) fn unreadable(path: PathBuf, why: &dyn fmt::Display) -> Self {
        let message = format!("cannot be read: {why}");
        Self { path, text: String::new(), mistakes: vec![Mistake { at: 0..0, message }] }
    }

    /// How many things are wrong.
    #[must_use]
    pub fn count(&self) -> usize {
        self.mistakes.len()
    }

    /// With the lines of the file, for a person; in colours if `styled`.
    #[must_use]
    pub fn render(&self, styled: bool) -> String {
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        let path = sanitize(&self.path.display().to_string());
        let shown = self.mistakes.iter().map(|mistake| {
            let message = sanitize(&mistake.message);
            if self.text.is_empty() || self.line(mistake).is_none_or(|line| line.len() > LINE_MAX) {
                return format!("error: {}", self.place(mistake));
            }
            let annotation = AnnotationKind::Primary.span(mistake.at.clone());
            let snippet = Snippet::source(&self.text).path(&path).annotation(annotation);
            renderer.render(&[Level::ERROR.primary_title(message).element(snippet)])
        });
        shown.collect::<Vec<_>>().join("\n\n")
    }

    /// `file:line:column: what is wrong`.
    fn place(&self, mistake: &Mistake) -> String {
        let path = self.path.display().to_string();
        let (path, message) = (sanitize(&path), sanitize(&mistake.message));
        if self.text.is_empty() {
            return format!("{path}: {message}");
        }
        let before = &self.text[..self.text.floor_char_boundary(mistake.at.start)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{path}:{line}:{column}: {message}")
    }

    fn line(&self, mistake: &Mistake) -> Option<&str> {
        let start = self.text.get(..mistake.at.start)?.rfind('\n').map_or(0, |end| end + 1);
        self.text[start..].lines().next()
    }
}

/// One line for each.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, mistake) in self.mistakes.iter().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(f, "{end}{}", self.place(mistake))?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
