//! File systems by the reliability of their change events.

use std::path::Path;

/// Kind of a file system, ordered from the most to the least reliable change detection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FilesystemKind {
    /// File system in memory. The kernel reports all changes, and reads do not wait for a device.
    #[default]
    Memory,
    /// Local file system. The kernel makes all changes itself and reports them.
    Local,
    /// Network, cluster or FUSE file system. Other machines or processes may change files without
    /// the knowledge of the kernel. The metadata of a file shows such a change.
    Remote,
    /// Pseudo file system. The kernel generates the content of a file when it is read. Neither
    /// events nor metadata show a change.
    Pseudo,
}

/// Magic numbers of remote file systems, from `statfs(2)` and the kernel's `magic.h`.
const REMOTE_MAGIC: [i64; 25] = [
    0x6969,      // NFS
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB 2 and 3
    0x517b,      // SMB
    0x6573_5546, // FUSE and virtiofs
    0x0102_1997, // 9p
    0x00c3_6400, // Ceph
    0x5346_414f, // AFS
    0x6b41_4653, // AFS, in-kernel client
    0x7375_7245, // Coda
    0x564c,      // NCP
    0x0116_1970, // GFS2
    0x7461_636f, // OCFS2
    0x0bd0_0bd0, // Lustre
    0x4750_4653, // GPFS
    0x786f_4256, // VirtualBox shared folders
    0xbacb_acbc, // VMware shared folders
    0x7c7c_6673, // Parallels shared folders
    0x2003_0528, // OrangeFS
    0xaad7_aaea, // PanFS
    0x6163_6673, // ACFS
    0xbeef_dead, // StorNext
    0x1983_0326, // BeeGFS
    0x0131_11a8, // IBRIX
    0x6175_6673, // aufs, whose branches may be changed directly
];
/// Numbers by which `statfs(2)` identifies file systems in memory.
const MEMORY_MAGIC: [i64; 2] = [
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
];
/// Numbers by which `statfs(2)` identifies pseudo file systems, whose files the kernel generates.
const PSEUDO_MAGIC: [i64; 15] = [
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

impl FilesystemKind {
    /// Returns the kind of the file system that contains `path`, which must not be a symbolic link.
    #[cfg(target_os = "linux")]
    #[allow(clippy::unnecessary_cast, reason = "the type of `f_type` differs between platforms")]
    pub(crate) fn detect(path: &Path) -> Self {
        // A file system whose `statfs` fails is probably remote.
        rustix::fs::statfs(path).map_or(Self::Remote, |found| Self::from_magic(found.f_type as i64))
    }

    /// Returns `Remote`, so that all files are polled on systems without inotify.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn detect(_: &Path) -> Self {
        Self::Remote
    }

    #[cfg(any(target_os = "linux", test))]
    fn from_magic(number: i64) -> Self {
        // `f_type` is signed on some platforms and 32 bits wide on others.
        let number = number & 0xffff_ffff;
        if REMOTE_MAGIC.contains(&number) {
            Self::Remote
        } else if PSEUDO_MAGIC.contains(&number) {
            Self::Pseudo
        } else if MEMORY_MAGIC.contains(&number) {
            Self::Memory
        } else {
            Self::Local
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_number_determines_the_kind() {
        assert_eq!(FilesystemKind::from_magic(0xef53), FilesystemKind::Local);
        assert_eq!(FilesystemKind::from_magic(0x6969), FilesystemKind::Remote);
        let sign_extended = i64::from(0xff53_4d42_u32 as i32);
        assert_eq!(FilesystemKind::from_magic(sign_extended), FilesystemKind::Remote);
        #[cfg(target_os = "linux")]
        assert_eq!(FilesystemKind::detect(Path::new("/proc/self/stat")), FilesystemKind::Pseudo);
    }
}
