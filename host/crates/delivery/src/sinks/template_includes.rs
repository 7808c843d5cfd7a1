//! Files that a template file includes: only from its directory, and watched like the template file.

use super::template_file::{TemplateFile, read_template};
use minijinja::{Error, ErrorKind};
use reloader_fs_watch::FileFingerprint;
use reloader_util::sync::Mutex;
use std::{
    collections::BTreeMap,
    future::poll_fn,
    path::{Path, PathBuf},
    sync::Arc,
    task::Poll,
};

/// Maximum number of files that a template includes.
const MAX_INCLUDES: usize = 100;

/// Included files of a template file.
#[derive(Debug)]
pub(super) struct Includes {
    directory: PathBuf,
    /// Files of the last rendering, by path.
    files: Mutex<BTreeMap<PathBuf, Arc<TemplateFile>>>,
}

impl Includes {
    /// Returns the includes of the template file `template`.
    pub(super) fn of(template: &Path) -> Self {
        let directory = template.parent().unwrap_or(Path::new("")).to_owned();
        Self { directory, files: Mutex::default() }
    }

    /// Forgets the files of the last rendering.
    pub(super) fn clear(&self) {
        self.files.lock().clear();
    }

    /// Returns the text of the file with this name in `include`, `import` or `extends`.
    pub(super) fn load(&self, name: &str) -> Result<Option<String>, Error> {
        let failed = |reason: String| Error::new(ErrorKind::InvalidOperation, reason);
        let is_below = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !is_below {
            return Err(failed(format!(
                "cannot include `{name}`: expected a path below the directory of the template file"
            )));
        }
        let path = self.directory.join(name);
        let file = {
            let mut files = self.files.lock();
            if files.len() >= MAX_INCLUDES && !files.contains_key(&path) {
                return Err(failed(format!("more than {MAX_INCLUDES} files are included")));
            }
            let file = files.entry(path.clone());
            Arc::clone(file.or_insert_with(|| Arc::new(TemplateFile::new(&path))))
        };
        // Taken before the read, so that a change during the read is detected later.
        let fingerprint = FileFingerprint::read(&path);
        file.set_read(fingerprint);
        if fingerprint.is_none() {
            // The engine ignores a missing file with `ignore missing`, and tries the next name of a list.
            return Ok(None);
        }
        match read_template(&path) {
            Ok((_, text)) => Ok(Some(text.to_string())),
            Err(error) => Err(failed(error.message)),
        }
    }

    /// Waits until one of the files of the last rendering has changed. Never returns without files.
    pub(super) async fn changed(&self) {
        let files: Vec<_> = self.files.lock().values().cloned().collect();
        let mut changes: Vec<_> = files.iter().map(|file| Box::pin(file.changed())).collect();
        poll_fn(|context| {
            let is_changed = changes.iter_mut().any(|it| it.as_mut().poll(context).is_ready());
            if is_changed { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
