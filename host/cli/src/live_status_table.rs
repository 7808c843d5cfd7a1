//! Live status table of all sources, below the log on a terminal.

use console::{Style, Term, measure_text_width, truncate_str};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use reloader_api_types::SourceStatus;
use reloader_app::Handle;
use std::{
    io::{self, Write},
    time::Duration,
};

/// Time between two updates of the table.
const UPDATE_INTERVAL: Duration = Duration::from_secs(1);
/// Upper bound of redraws per second, to save CPU time.
const MAX_FRAMES_PER_SECOND: u8 = 10;
/// Number of terminal lines that are reserved for the log.
const RESERVED_LOG_LINES: usize = 6;
/// Upper bound of the rows of the table.
const MAX_ROWS: usize = 40;

/// Status table in the last lines of a terminal. The log appears above the table. Clones share the terminal.
#[derive(Debug, Clone)]
pub(crate) struct StatusTable(MultiProgress);

impl StatusTable {
    /// Creates an empty table that is displayed on standard error.
    pub(crate) fn new() -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(MAX_FRAMES_PER_SECOND);
        Self(MultiProgress::with_draw_target(target))
    }

    /// Shows and updates the status table until the future is dropped.
    pub(crate) async fn show(self, handle: Handle) {
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| plain());
        let mut lines: Vec<ProgressBar> = Vec::new();
        loop {
            let (height, width) = Term::stderr().size();
            let rows = (height as usize).saturating_sub(RESERVED_LOG_LINES).clamp(3, MAX_ROWS);
            let table = table(&handle.sources(), rows, width as usize, Timestamp::now());
            while lines.len() < table.len() {
                lines.push(self.0.add(ProgressBar::new_spinner().with_style(style.clone())));
            }
            for line in lines.drain(table.len()..) {
                self.0.remove(&line);
            }
            for (line, text) in lines.iter().zip(table) {
                line.set_message(text);
            }
            // All changes of one interval cause a single redraw.
            tokio::time::sleep(UPDATE_INTERVAL).await;
        }
    }

    /// Removes the table from the terminal.
    pub(crate) fn clear(&self) {
        let _ = self.0.clear();
    }
}

fn plain() -> ProgressStyle {
    ProgressStyle::default_spinner()
}

/// Writer for the log: prints log lines above the table.
impl Write for StatusTable {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.println(text.trim_end_matches('\n'))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the lines of the table: a header, at most `rows` sources, and the number of omitted sources. Sources that
/// need attention come first.
fn table(sources: &[SourceStatus], rows: usize, width: usize, now: Timestamp) -> Vec<String> {
    let mut order: Vec<_> = sources.iter().collect();
    order.sort_by_key(|source| (!needs_attention(source), &source.name));
    let name_width =
        order.iter().take(rows).map(|source| measure_text_width(&source.name)).max().unwrap_or(0);
    let name_width = name_width.clamp(6, 32);
    let (bold, dim) = (Style::new().bold(), Style::new().dim());
    let header =
        format!("{:name_width$}  {:8}  {:>8}  {:>8}  sinks", "source", "state", "revision", "age");
    let mut lines = vec![bold.apply_to(header).to_string()];
    for source in order.iter().take(rows) {
        let style = match source.state.as_str() {
            "current" => Style::new().green(),
            "waiting" => Style::new().dim(),
            _ => Style::new().yellow(),
        };
        let state = if source.pinned.is_some() { "pinned" } else { &source.state };
        let behind =
            source.sinks.iter().filter(|sink| sink.revision != Some(source.revision)).count();
        let all = source.sinks.len();
        let sinks = format!("{}/{all}", all - behind);
        let error = source
            .error
            .as_deref()
            .or_else(|| source.sinks.iter().find_map(|sink| sink.error.as_deref()));
        lines.push(format!(
            "{:name_width$}  {}  {:>8}  {:>8}  {sinks:5}  {}",
            truncate_str(&source.name, name_width, "…"),
            style.apply_to(format!("{state:8}")),
            source.revision,
            source.at.map(|at| age(now, at)).unwrap_or_default(),
            dim.apply_to(error.unwrap_or_default()),
        ));
    }
    if sources.len() > rows {
        lines.push(dim.apply_to(format!("and {} more", sources.len() - rows)).to_string());
    }
    lines.into_iter().map(|line| truncate_str(&line, width.max(20), "…").into_owned()).collect()
}

fn needs_attention(source: &SourceStatus) -> bool {
    source.state != "current"
        || source.error.is_some()
        || source.sinks.iter().any(|sink| sink.error.is_some())
}

/// Formats an age in one unit: `5s`, `12m`, `3h`, `4d`.
fn age(now: Timestamp, at: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(at.as_second()).max(0);
    match seconds {
        0..100 => format!("{seconds}s"),
        100..6_000 => format!("{}m", seconds / 60),
        6_000..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, state: &str, error: Option<&str>) -> SourceStatus {
        SourceStatus {
            name: name.into(),
            plugin: "file".into(),
            state: state.into(),
            pinned: None,
            revision: 3,
            at: Some(Timestamp::from_second(1_000).unwrap()),
            last_success_at: None,
            error: error.map(Into::into),
            sinks: Vec::new(),
        }
    }

    #[test]
    fn table_lists_problems_first() {
        let now = Timestamp::from_second(1_012).unwrap();
        let sources = [
            source("a", "current", None),
            source("b", "current", None),
            source("c", "stale", Some("down")),
        ];
        let lines = table(&sources, 2, 200, now);
        let lines: Vec<_> = lines.iter().map(|line| console::strip_ansi_codes(line)).collect();
        assert!(lines[1].starts_with("c ") && lines[1].ends_with("down"), "{lines:?}");
        assert!(lines[2].starts_with("a ") && lines[2].contains("12s"), "{lines:?}");
        assert_eq!(lines[3], "and 1 more");
    }

    #[test]
    fn lines_fit_terminal_width() {
        let sources = [source("a", "stale", Some(&"x".repeat(500)))];
        let lines = table(&sources, 5, 60, Timestamp::UNIX_EPOCH);
        assert!(lines.iter().all(|line| measure_text_width(line) <= 60));
    }
}
