//! What can be known of changes in a file system, by its kind.

use std::path::Path;

/// Ordered from the best to the worst.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ground {
    /// In memory, and nowhere else.
    #[default]
    Memory,
    /// The kernel makes all changes itself, and tells of them.
    Told,
    /// Others may change it without the kernel's knowledge, but a look at the file shows it.
    Remote,
    /// Contents are made up when they are read; nothing else shows that they are others.
    MadeUp,
}

/// Numbers from `statfs(2)` and the kernel's `magic.h`.
const REMOTE: [i64; 25] = [
    0x6969,      // NFS
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB 2 and 3
    0x517b,      // SMB
    0x6573_5546, // FUSE, and virtiofs
    0x0102_1997, // 9p
    0x00c3_6400, // Ceph
    0x5346_414f, // AFS
    0x6b41_4653, // AFS, the kernel's own
    0x7375_7245, // Coda
    0x564c,      // NCP
    0x0116_1970, // GFS2
    0x7461_636f, // OCFS2
    0x0bd0_0bd0, // Lustre
    0x4750_4653, // GPFS
    0x786f_4256, // VirtualBox's shared folders
    0xbacb_acbc, // VMware's shared folders
    0x7c7c_6673, // Parallels' shared folders
    0x2003_0528, // OrangeFS
    0xaad7_aaea, // PanFS
    0x6163_6673, // ACFS
    0xbeef_dead, // StorNext
    0x1983_0326, // BeeGFS
    0x0131_11a8, // IBRIX
    0x6175_6673, // aufs, whose branches may be changed behind its back
];
const MEMORY: [i64; 2] = [
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
];
const MADE_UP: [i64; 15] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup 2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x6265_6570, // configfs
    0xde5e_81e4, // efivarfs
    0xf97c_ff8c, // SELinux
    0x4341_5d53, // Smack
    0x4249_4e4d, // binfmt_misc
    0xcafe_4a11, // BPF
    0x0765_5821, // resctrl
    0x6165_676c, // pstore
];

impl Ground {
    /// Of the file system that this path (no link) is in.
    #[cfg(target_os = "linux")]
    #[allow(clippy::unnecessary_cast, reason = "the type differs between machines")]
    pub(crate) fn of(path: &Path) -> Self {
        // What cannot even be asked is likely to be far away.
        rustix::fs::statfs(path).map_or(Self::Remote, |found| Self::of_kind(found.f_type as i64))
    }

    /// Elsewhere nothing is known of kinds, and everything is looked at.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn of(_: &Path) -> Self {
        Self::Remote
    }

    #[cfg(any(target_os = "linux", test))]
    fn of_kind(number: i64) -> Self {
        // The type is signed on some machines, and 32 bits wide on some.
        let number = number & 0xffff_ffff;
        if REMOTE.contains(&number) {
            Self::Remote
        } else if MADE_UP.contains(&number) {
            Self::MadeUp
        } else if MEMORY.contains(&number) {
            Self::Memory
        } else {
            Self::Told
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_known_by_its_kind() {
        assert_eq!(Ground::of_kind(0xef53), Ground::Told);
        assert_eq!(Ground::of_kind(0x6969), Ground::Remote);
        assert_eq!(Ground::of_kind(i64::from(0xff53_4d42_u32 as i32)), Ground::Remote);
        #[cfg(target_os = "linux")]
        assert_eq!(Ground::of(Path::new("/proc/self/stat")), Ground::MadeUp);
    }
}
