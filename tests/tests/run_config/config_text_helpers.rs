//! Parts of configuration files, which the tests combine.

/// Returns the configuration of a file source, followed by `rest`.
pub(crate) fn source(name: &str, rest: &str) -> String {
    format!(
        "[[source]]\nname = \"{name}\"\nplugin = \"file\"\nconfig.path = \"{name}.in\"\n{rest}\n"
    )
}

/// Returns the configuration of a file sink for the preceding source.
pub(crate) fn to_file(name: &str) -> String {
    format!("[[source.sink]]\ntype = \"file\"\npath = \"{name}\"\n")
}
