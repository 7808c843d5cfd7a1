//! Markdown documents of the repository: code blocks, headings and links.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Returns the root directory of the repository.
pub(crate) fn root() -> PathBuf {
    e2e::package().join("..").canonicalize().unwrap()
}

/// Returns the paths of all documents, relative to the root of the repository and sorted.
pub(crate) fn documents() -> Vec<PathBuf> {
    let mut found: Vec<_> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
            .map(PathBuf::from)
            .into();
    for folder in ["docs", "plugins", "packaging", "wit"] {
        collect(Path::new(folder), &mut found);
    }
    found.sort();
    found
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = folder.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// Reads a document.
pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Fenced code block.
#[derive(Debug)]
pub(crate) struct Block {
    /// Language: the word after the opening fence.
    pub(crate) language: String,
    /// Line number of the opening fence.
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Block {
    /// Returns the file that the block shows: the name in a comment on its first line.
    pub(crate) fn file_name(&self) -> Option<&str> {
        let first = self.text.lines().next()?;
        let name = ["# ", "// ", "; "].iter().find_map(|comment| first.strip_prefix(comment))?;
        let is_name = name.contains('.') && !name.contains(' ') && !name.ends_with('.');
        is_name.then_some(name)
    }
}

/// Returns the code blocks of a document.
pub(crate) fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in document.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => blocks.push(block),
            (Some(language), None) => {
                let language = language.trim().to_owned();
                open = Some(Block { language, line: index + 1, text: String::new() });
            }
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "code block without end: {open:?}");
    blocks
}

/// Returns the document without its code blocks. Lines keep their numbers.
fn prose(document: &str) -> Vec<&str> {
    let mut in_block = false;
    document
        .lines()
        .map(|line| {
            let is_fence = line.trim_start().starts_with("```");
            in_block ^= is_fence;
            if in_block || is_fence { "" } else { line }
        })
        .collect()
}

/// Returns the anchors of the headings, as GitHub generates them.
pub(crate) fn anchors(document: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for line in prose(document) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let slug: String = title
            .trim()
            .to_lowercase()
            .chars()
            .filter(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_' | ' '))
            .map(|letter| if letter == ' ' { '-' } else { letter })
            .collect();
        let same = anchors.iter().filter(|anchor| **anchor == slug).count();
        anchors.push(if same == 0 { slug } else { format!("{slug}-{same}") });
    }
    anchors
}

/// Returns the targets of the links with their line numbers.
pub(crate) fn links(document: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (index, line) in prose(document).into_iter().enumerate() {
        for part in line.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                links.push((index + 1, target.to_owned()));
            }
        }
    }
    links
}

#[test]
fn anchors_follow_the_rules_of_github() {
    let document = "# Move from `hot_reload`\n## TLS, and secrets\n```\n# no heading\n```\n## TLS, and secrets\n";
    assert_eq!(anchors(document), ["move-from-hot_reload", "tls-and-secrets", "tls-and-secrets-1"]);
}
