//! What is different between two values of a source.

use crate::{Shared, api::may_read, auth::Caller, problem::Problem};
use axum::{
    Extension, Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;
use reloader_api_types::{Diff, DiffLine};
use serde::Deserialize;
use similar::{ChangeTag, TextDiff};
use std::{sync::Arc, time::Duration};
use tokio::task::spawn_blocking;
use utoipa::IntoParams;

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/v1/sources/{source}/diff", get(diff))
}

/// Larger values are not compared line by line, in bytes. A comparison takes up to 46 MiB and, on one
/// processor, 130 ms (measured: a line for each byte or two on both sides).
const SIZE_MAX: usize = 1 << 20;
/// After so long what is left is taken for different as a whole.
const DEADLINE: Duration = Duration::from_millis(500);
/// No more lines are shown.
const LINES_MAX: usize = 20_000;
/// So many lines around a change are shown.
const AROUND: usize = 3;

/// Which values.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Between {
    /// The revision that it leads from.
    from: u64,
    /// The revision that it leads to; by default the present one.
    to: Option<u64>,
}

/// What is different between two values.
#[utoipa::path(get, path = "/v1/sources/{source}/diff", tag = "sources",
    params(("source" = String, Path, description = "Its name", example = "app"), Between),
    responses(
        (status = 200, description = "Line by line", body = Diff),
        (status = 400, description = "A parameter that is none", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No token, or none that counts", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A token that is not good for it, or values that are not to be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such source or revision", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Nothing is remembered, or values that are not text, or too large", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn diff(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    query: Result<Query<Between>, QueryRejection>,
) -> Result<Response, Problem> {
    may_read(&shared, &caller, &name)?;
    let Query(between) = query.map_err(|error| Problem::bad(error.body_text()))?;
    let making = shared.room.making().await?;
    let text = async |revision: Option<u64>| {
        let (revision, value) = shared.handle.value(&name, revision.map(Into::into)).await?;
        let revision = revision.get();
        if value.content.len() > SIZE_MAX {
            return Err(cannot(format!("the value of revision {revision} is larger than 1 MiB")));
        }
        let text = String::from_utf8(value.content.into());
        let text =
            text.map_err(|_| cannot(format!("the value of revision {revision} is no text")))?;
        Ok((revision, text))
    };
    let (from, old) = text(Some(between.from)).await?;
    let (to, new) = text(between.to).await?;
    let made =
        spawn_blocking(move || Json(Diff { from, to, lines: lines(&old, &new) }).into_response());
    let mut answer = made.await.map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("they were not compared: {error}"))
    })?;
    answer.extensions_mut().insert(making);
    Ok(answer)
}

fn cannot(why: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, why)
}

fn lines(old: &str, new: &str) -> Vec<DiffLine> {
    let diff = TextDiff::configure().timeout(DEADLINE).diff_lines(old, new);
    let mut lines = Vec::new();
    let mut shown = 0;
    for group in diff.grouped_ops(AROUND) {
        let starts = group.first().map_or(shown, |op| op.old_range().start);
        if starts > shown {
            lines.push(skipped(starts - shown));
        }
        shown = group.last().map_or(shown, |op| op.old_range().end);
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            if lines.len() >= LINES_MAX {
                lines.push(skip("there is more that is different".into()));
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
    if all > shown {
        lines.push(skipped(all - shown));
    }
    lines
}

fn skipped(count: usize) -> DiffLine {
    let text = match count {
        1 => "1 line is the same".into(),
        count => format!("{count} lines are the same"),
    };
    skip(text)
}

fn skip(text: String) -> DiffLine {
    DiffLine { kind: "skip".into(), old: None, new: None, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(old: &str, new: &str) -> Vec<String> {
        let sign = |line: &DiffLine| match &*line.kind {
            "insert" => '+',
            "delete" => '-',
            "skip" => '…',
            _ => ' ',
        };
        lines(old, new).iter().map(|line| format!("{}{}", sign(line), line.text)).collect()
    }

    #[test]
    fn what_is_the_same_far_from_any_change_is_left_out() {
        let old: String = (1..=20).map(|number| format!("{number}\n")).collect();
        let new = old.replace("10\n", "ten\n");
        let expected = [
            "…6 lines are the same",
            " 7",
            " 8",
            " 9",
            "-10",
            "+ten",
            " 11",
            " 12",
            " 13",
            "…7 lines are the same",
        ];
        assert_eq!(shown(&old, &new), expected);
        assert_eq!(lines(&old, &new)[5].new, Some(10));
        assert_eq!(shown("a\n", "a\n"), ["…1 line is the same"]);
        assert_eq!(shown("", "a"), ["+a"]);
    }

    #[test]
    fn values_that_have_nothing_in_common_are_not_shown_for_ever() {
        let text = |seed: u64| -> String {
            (0..20_000u64).map(|line| format!("{}\n", line * line + seed)).collect()
        };
        let lines = lines(&text(1), &text(2));
        assert_eq!((lines.len(), &*lines[LINES_MAX].kind), (LINES_MAX + 1, "skip"));
    }
}
