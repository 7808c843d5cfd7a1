//! Links between the documents and to files of the repository.

use crate::markdown::{anchors, documents, links, read, root};
use std::path::Path;

/// Links to files, folders and headings of the repository resolve.
#[test]
fn internal_links_resolve() {
    let mut broken = Vec::new();
    for document in documents() {
        for (line, link) in links(&read(&document)) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let folder = document.parent().unwrap_or(Path::new(""));
            let target = if path.is_empty() { document.clone() } else { folder.join(path) };
            let is_broken = if anchor.is_empty() {
                !root().join(&target).exists()
            } else {
                !root().join(&target).is_file()
                    || !anchors(&read(&target)).iter().any(|known| known == anchor)
            };
            if is_broken {
                broken.push(format!("{}:{line}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}
