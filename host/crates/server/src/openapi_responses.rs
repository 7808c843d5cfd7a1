//! Error responses of several endpoints, for the OpenAPI description.

use crate::problem::Problem;
use std::collections::BTreeMap;
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{Content, Ref, RefOr, Response},
};

const INVALID_NAME: (u16, &str) = (400, "Invalid source name");
const INVALID_QUERY: (u16, &str) = (400, "Invalid source name or query parameter");
const INVALID_LIST_QUERY: (u16, &str) = (400, "Invalid query parameter");
const UNAUTHORIZED: (u16, &str) = (401, "Missing or invalid token");
const OVERLOADED: (u16, &str) =
    (503, "The host is stopping, or has too many connections or requests; `Retry-After` is set");
const NO_ACCESS: (u16, &str) = (403, "The token may not access the source");
const NOT_READABLE: (u16, &str) =
    (403, "The token may not access the source, or its values are not readable");
const NOT_ADMIN: (u16, &str) =
    (403, "The token may not access the source, or does not have the scope `admin`");
const UNKNOWN_SOURCE: (u16, &str) = (404, "Unknown source");
const NO_VALUE: (u16, &str) =
    (404, "Unknown source, no value, or no stored content for the revision");
const NO_HISTORY: (u16, &str) = (409, "The host stores no history, since `[state]` is disabled");

const NO_PAST_VALUE: (u16, &str) =
    (409, "`revision` is set, but the host stores no history, since `[state]` is disabled");

/// Declares types for `responses(…)` of `utoipa::path`. A response that `responses(…)` lists after such a type replaces
/// the response of the type with the same status code.
macro_rules! error_responses {
    ($($(#[$doc:meta])* $name:ident: [$($response:expr),*];)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                problems(&[$($response),*])
            }
        }
    )*};
}

error_responses! {
    /// Errors of requests for no particular source.
    Unauthorized: [UNAUTHORIZED, OVERLOADED];
    /// Errors of requests for the list of sources.
    ListErrors: [INVALID_LIST_QUERY, UNAUTHORIZED, OVERLOADED];
    /// Errors of requests for the status of a source.
    StatusErrors: [INVALID_NAME, UNAUTHORIZED, NO_ACCESS, UNKNOWN_SOURCE, OVERLOADED];
    /// Errors of requests for the history of a source.
    HistoryErrors: [INVALID_NAME, UNAUTHORIZED, NO_ACCESS, UNKNOWN_SOURCE, NO_HISTORY, OVERLOADED];
    /// Errors of requests for values.
    ValueErrors: [INVALID_QUERY, UNAUTHORIZED, NOT_READABLE, NO_VALUE, NO_PAST_VALUE, OVERLOADED];
    /// Errors of commands.
    CommandErrors: [INVALID_NAME, UNAUTHORIZED, NOT_ADMIN, UNKNOWN_SOURCE, OVERLOADED];
}

fn problems(responses: &[(u16, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let response = |description: &str| {
        let problem = Ref::from_schema_name(Problem::name());
        let mut response = Response::new(description);
        response.content.insert(
            "application/problem+json".into(),
            RefOr::T(Content::new(Some(RefOr::Ref(problem)))),
        );
        RefOr::T(response)
    };
    responses
        .iter()
        .map(|(status, description)| (status.to_string(), response(description)))
        .collect()
}
