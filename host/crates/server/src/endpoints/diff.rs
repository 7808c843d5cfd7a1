//! Diff endpoint: line-by-line difference between two revisions of a source.

use crate::{
    auth::Caller, openapi_responses::ValueErrors, problem::Problem, shared_state::SharedState,
};
use axum::{
    Extension, Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;
use reloader_api_types::{Diff, DiffLine};
use reloader_app::Handle;
use serde::Deserialize;
use similar::{ChangeTag, TextDiff};
use std::{sync::Arc, time::Duration};
use utoipa::IntoParams;

pub(crate) fn routes() -> Router<Arc<SharedState>> {
    Router::new().route("/v1/sources/{source}/diff", get(diff))
}

/// Maximum size of each of the two compared values, in bytes. In the worst case measured, lines of one or two bytes in
/// both values, a comparison of this size takes 46 MiB of memory and 130 ms of CPU time.
const MAX_VALUE_BYTES: usize = 1 << 20;
/// Time limit of a comparison. Lines that are not compared within this time are reported as different.
const DIFF_TIMEOUT: Duration = Duration::from_millis(500);
/// Maximum number of lines in a response.
const MAX_LINES: usize = 20_000;
/// Number of unchanged lines that are reported before and after each change.
const CONTEXT_LINES: usize = 3;

/// Query parameters of a difference.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DiffQuery {
    /// Old revision.
    from: u64,
    /// New revision. Default: the current revision.
    to: Option<u64>,
}

/// Line-by-line difference between two revisions.
///
/// The response has 3 lines of context around each change, and at most 20,000 lines.
#[utoipa::path(get, path = "/v1/sources/{source}/diff", tag = "sources",
    params(("source" = String, Path, description = "Name of the source", example = "app"), DiffQuery),
    responses(
        (status = 200, description = "Changed lines and their context", body = Diff),
        ValueErrors,
        (status = 409, description = "A value is not text or is larger than 1 MiB, or the host stores no history, since `[state]` is disabled", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn diff(
    State(shared): State<Arc<SharedState>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    query: Result<Query<DiffQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.check_readable(&shared.handle, &name)?;
    let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    let handle = shared.handle.clone();
    let compare = async move {
        let (from, old) = text(&handle, &name, Some(query.from)).await?;
        let (to, new) = text(&handle, &name, query.to).await?;
        Ok(Json(Diff { from, to, lines: lines(&old, &new) }).into_response())
    };
    shared.budget.build(&shared.render_pool, compare).await
}

/// Returns the number and the value of a revision, by default of the current one.
async fn text(
    handle: &Handle,
    name: &str,
    revision: Option<u64>,
) -> Result<(u64, String), Problem> {
    let (revision, value) = handle.value(name, revision.map(Into::into)).await?;
    let revision = revision.get();
    if value.content.len() > MAX_VALUE_BYTES {
        return Err(not_comparable(revision, "larger than 1 MiB"));
    }
    let text = String::from_utf8(value.content.into());
    Ok((revision, text.map_err(|_| not_comparable(revision, "not UTF-8 text"))?))
}

fn not_comparable(revision: u64, reason: &str) -> Problem {
    let detail = format!("cannot compare: the value of revision {revision} is {reason}");
    Problem::new(StatusCode::CONFLICT, detail)
}

/// Compares two texts. Returns changed lines with their context, and a line of the kind `skip` in place of other
/// unchanged lines.
fn lines(old: &str, new: &str) -> Vec<DiffLine> {
    let diff = TextDiff::configure().timeout(DIFF_TIMEOUT).diff_lines(old, new);
    let mut lines = Vec::new();
    // Number of lines of the old text that `lines` already covers.
    let mut done = 0;
    for group in diff.grouped_ops(CONTEXT_LINES) {
        let start = group.first().map_or(done, |op| op.old_range().start);
        if start > done {
            lines.push(unchanged_lines(start - done));
        }
        done = group.last().map_or(done, |op| op.old_range().end);
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            if lines.len() >= MAX_LINES {
                lines.push(skip("more changes omitted".into()));
                return lines;
            }
            let kind = match change.tag() {
                ChangeTag::Equal => "equal",
                ChangeTag::Delete => "delete",
                ChangeTag::Insert => "insert",
            };
            let number = |index: Option<usize>| index.map(|index| index as u64 + 1);
            lines.push(DiffLine {
                kind: kind.into(),
                old: number(change.old_index()),
                new: number(change.new_index()),
                text: change.value().trim_end_matches(['\r', '\n']).into(),
            });
        }
    }
    let all = diff.ops().last().map_or(0, |op| op.old_range().end);
    if all > done {
        lines.push(unchanged_lines(all - done));
    }
    lines
}

fn unchanged_lines(count: usize) -> DiffLine {
    let text = match count {
        1 => "1 unchanged line".into(),
        count => format!("{count} unchanged lines"),
    };
    skip(text)
}

fn skip(text: String) -> DiffLine {
    DiffLine { kind: "skip".into(), old: None, new: None, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Renders a difference: one string for each line, with its sign.
    fn render(old: &str, new: &str) -> Vec<String> {
        let sign = |line: &DiffLine| match &*line.kind {
            "insert" => '+',
            "delete" => '-',
            "skip" => '…',
            _ => ' ',
        };
        lines(old, new).iter().map(|line| format!("{}{}", sign(line), line.text)).collect()
    }

    #[test]
    fn distant_unchanged_lines_are_skipped() {
        let old: String = (1..=20).map(|number| format!("{number}\n")).collect();
        let new = old.replace("10\n", "ten\n");
        let expected = [
            "…6 unchanged lines",
            " 7",
            " 8",
            " 9",
            "-10",
            "+ten",
            " 11",
            " 12",
            " 13",
            "…7 unchanged lines",
        ];
        assert_eq!(render(&old, &new), expected);
        assert_eq!(lines(&old, &new)[5].new, Some(10));
        assert_eq!(render("a\n", "a\n"), ["…1 unchanged line"]);
        assert_eq!(render("", "a"), ["+a"]);
    }

    /// Two texts without a common line have 40,000 changed lines. The response has the first 20,000 and a `skip` line.
    #[test]
    fn different_texts_are_cut_at_line_limit() {
        let text = |seed: u64| -> String {
            (0..20_000u64).map(|line| format!("{}\n", line * line + seed)).collect()
        };
        let lines = lines(&text(1), &text(2));
        assert_eq!((lines.len(), &*lines[MAX_LINES].kind), (MAX_LINES + 1, "skip"));
    }
}
