//! Preflight check of a written file: its directory, its links, its owner and its group.

use super::{
    file_attributes::{group_id, user_id},
    file_settings::TargetSettings,
    path_resolution::resolve_links,
};
use crate::preflight_warning::PreflightWarning;
use std::{io, path::Path};

impl TargetSettings {
    /// Returns the reasons why the file cannot be written now.
    pub(crate) fn preflight(&self) -> Vec<PreflightWarning> {
        let path = self.path.display();
        let mut warnings = Vec::new();
        if self.path.is_dir() {
            warnings.push(("path", format!("`{path}` is a directory; expected a file")));
        } else if let Some(directory) = self.path.parent().filter(|parent| parent != &Path::new(""))
            && !directory.is_dir()
            && !self.create_directories
        {
            let directory = directory.display();
            let hint = "create it or set `create-directories = true`";
            warnings.push(("path", format!("directory `{directory}` does not exist; {hint}")));
        }
        if let Err(error) = resolve_links(&self.path) {
            warnings.push(("path", error.to_string()));
        }
        let user = self.owner.as_deref().map(user_id);
        let group = self.group.as_deref().map(group_id);
        let unknown = |key, looked_up: Option<Result<u32, io::Error>>| {
            Some((key, looked_up?.err()?.to_string()))
        };
        warnings.extend([unknown("owner", user), unknown("group", group)].into_iter().flatten());
        warnings
    }
}
