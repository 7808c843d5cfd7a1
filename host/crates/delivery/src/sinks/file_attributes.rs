//! Permissions and ownership of a written file: configured, or inherited from the previous file.

use super::file_settings::{Mode, TargetSettings};
use crate::sink::Delivered;
use nix::unistd::{Group, User};
use std::{
    fs::{File, Metadata, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt, fchown},
};

/// Default permissions of a new file: only its owner has access.
pub(super) const PRIVATE_MODE: u32 = 0o600;
/// Permission bits that a new file inherits from the previous one: no set-user-ID, set-group-ID or
/// sticky bit.
pub(super) const INHERITED_MODE_MASK: u32 = 0o777;

/// Permissions and ownership that a file should have.
#[derive(Debug)]
pub(super) struct Attributes {
    mode: u32,
    pub(super) owner: Option<u32>,
    group: Option<u32>,
    /// `true` if no owner is configured. A failure to set the owner of the previous file is then ignored.
    pub(super) is_owner_inherited: bool,
    /// `true` if no group is configured. A failure to set the group of the previous file is then ignored, and the
    /// group of the written file gets no access.
    is_group_inherited: bool,
}

impl Attributes {
    /// Returns the configured attributes, completed with those of the previous file.
    pub(super) fn new(settings: &TargetSettings, previous: Option<&Metadata>) -> io::Result<Self> {
        let owner = settings.owner.as_deref().map(user_id).transpose()?;
        let group = settings.group.as_deref().map(group_id).transpose()?;
        let mode = settings.mode.map(|Mode(mode)| mode);
        let inherited_mode = previous.map(|it| it.mode() & INHERITED_MODE_MASK);
        Ok(Self {
            mode: mode.or(inherited_mode).unwrap_or(PRIVATE_MODE),
            owner: owner.or(previous.map(MetadataExt::uid)),
            group: group.or(previous.map(MetadataExt::gid)),
            is_owner_inherited: owner.is_none(),
            is_group_inherited: group.is_none(),
        })
    }

    /// Sets the group, the owner and then the mode of `file`. Until the mode of a new file is set, no user other than
    /// the owner can read it.
    pub(super) fn apply(&self, file: &File) -> io::Result<()> {
        let current = file.metadata()?;
        let mut mode = self.mode;
        let changed = |new: Option<u32>, current| new.filter(|new| *new != current);
        // Separate calls for group and owner: an unprivileged user cannot change the owner, but can
        // set any group of which the user is a member.
        if let Some(group) = changed(self.group, current.gid()) {
            match fchown(file, None, Some(group)) {
                // The file keeps the host's group. The mode gives that group no access.
                Err(_) if self.is_group_inherited => mode &= !0o070,
                result => result?,
            }
        }
        if let Some(owner) = changed(self.owner, current.uid()) {
            match fchown(file, Some(owner), None) {
                Err(_) if self.is_owner_inherited => {}
                result => result?,
            }
        }
        if file.metadata()?.mode() & 0o7777 != mode {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// Updates the attributes of a file whose content is already correct, if they differ.
    pub(super) fn update(&self, file: &File, current: &Metadata) -> io::Result<Delivered> {
        let owner = self.owner.unwrap_or(current.uid());
        let group = self.group.unwrap_or(current.gid());
        let is_inherited = self.mode == current.mode() & INHERITED_MODE_MASK;
        let mask = if is_inherited { INHERITED_MODE_MASK } else { 0o7777 };
        if (current.mode() & mask, current.uid(), current.gid()) == (self.mode, owner, group) {
            return Ok(Delivered::Same);
        }
        self.apply(file)?;
        file.sync_all()?;
        Ok(Delivered::Changed)
    }
}

/// Returns the ID of a user, given by name or number.
pub(super) fn user_id(text: &str) -> io::Result<u32> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let user = User::from_name(text)?;
    user.map(|user| user.uid.as_raw())
        .ok_or_else(|| io::Error::other(format!("user `{text}` does not exist (`owner`)")))
}

/// Returns the ID of a group, given by name or number.
pub(super) fn group_id(text: &str) -> io::Result<u32> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let group = Group::from_name(text)?;
    group
        .map(|group| group.gid.as_raw())
        .ok_or_else(|| io::Error::other(format!("group `{text}` does not exist (`group`)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If the inherited group of a file with mode 0640 cannot be set, the host's group must not get access.
    #[test]
    fn group_permissions_are_dropped_if_chown_fails() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create(directory.path().join("app")).unwrap();
        // An unused group ID: only root may set it.
        let group = Some(u32::MAX - 1);
        let attributes = Attributes {
            mode: 0o640,
            owner: None,
            group,
            is_owner_inherited: true,
            is_group_inherited: true,
        };
        attributes.apply(&file).unwrap();
        let metadata = file.metadata().unwrap();
        let is_group_set = Some(metadata.gid()) == group;
        assert_eq!(metadata.mode() & 0o777, if is_group_set { 0o640 } else { 0o600 });
    }
}
