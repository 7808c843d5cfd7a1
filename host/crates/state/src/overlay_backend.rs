//! Storage backend that does not change its file: written blocks stay in memory and hide parts of the file.
//!
//! The backend makes the last stored state readable while the disk is full. redb repairs a database that was not closed
//! before it reads the database, and the repair needs to write.

use redb::{StorageBackend, backends::FileBackend};
use reloader_util::sync::RwLock;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Size of the blocks that are kept in memory, in bytes.
const BLOCK_BYTES: u64 = 4096;

type Block = Box<[u8; BLOCK_BYTES as usize]>;

/// File that is read, and blocks in memory that hide parts of it.
#[derive(Debug)]
pub(crate) struct OverlayBackend {
    /// Unchanged file below the overlay; `None` for an empty database.
    file: Option<FileBackend>,
    overlay: RwLock<Overlay>,
    memory_bytes: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Overlay {
    /// Length of the database, in bytes.
    length: u64,
    /// Length of the visible part of the file, in bytes. Beyond it, unwritten blocks contain zeros.
    file_length: u64,
    /// Written blocks, by index.
    blocks: BTreeMap<u64, Block>,
}

impl OverlayBackend {
    /// Creates an overlay without written blocks.
    pub(crate) fn new(file: Option<FileBackend>) -> io::Result<Self> {
        let length = file.as_ref().map_or(Ok(0), StorageBackend::len)?;
        let overlay = Overlay { length, file_length: length, blocks: BTreeMap::new() };
        Ok(Self { file, overlay: RwLock::new(overlay), memory_bytes: Arc::default() })
    }

    /// Returns a counter with the size of the written blocks, in bytes. Later writes update the counter.
    pub(crate) fn memory_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.memory_bytes)
    }

    /// Reads the visible part of the file, and zeros beyond it.
    fn read_file(&self, file_length: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let visible = file_length.saturating_sub(offset).min(out.len() as u64);
        let (visible, beyond) = out.split_at_mut(usize::try_from(visible).unwrap_or(usize::MAX));
        beyond.fill(0);
        match &self.file {
            Some(file) if !visible.is_empty() => file.read(offset, visible),
            _ => Ok(()),
        }
    }
}

impl StorageBackend for OverlayBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.overlay.read().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let overlay = self.overlay.read();
        let end = overlay.check_range(offset, out.len())?;
        self.read_file(overlay.file_length, offset, out)?;
        for (index, block) in overlay.blocks.range(offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES))
        {
            let part = Part::new(*index, offset, end);
            out[part.in_range].copy_from_slice(&block[part.in_block]);
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut overlay = self.overlay.write();
        overlay.file_length = overlay.file_length.min(length);
        overlay.blocks.split_off(&length.div_ceil(BLOCK_BYTES));
        let used = usize::try_from(length % BLOCK_BYTES).unwrap_or_default();
        if used > 0
            && let Some(last) = overlay.blocks.get_mut(&(length / BLOCK_BYTES))
        {
            last[used..].fill(0);
        }
        overlay.length = length;
        self.count_memory(&overlay);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut overlay = self.overlay.write();
        let end = overlay.check_range(offset, data.len())?;
        let file_length = overlay.file_length;
        for index in offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES) {
            let part = Part::new(index, offset, end);
            let block = match overlay.blocks.entry(index) {
                Entry::Occupied(written) => written.into_mut(),
                Entry::Vacant(unwritten) => {
                    let mut block = Box::new([0; BLOCK_BYTES as usize]);
                    if part.in_block.len() < block.len() {
                        self.read_file(file_length, index * BLOCK_BYTES, &mut block[..])?;
                    }
                    unwritten.insert(block)
                }
            };
            block[part.in_block].copy_from_slice(&data[part.in_range]);
        }
        self.count_memory(&overlay);
        Ok(())
    }
}

impl OverlayBackend {
    fn count_memory(&self, overlay: &Overlay) {
        self.memory_bytes.store(overlay.blocks.len() as u64 * BLOCK_BYTES, Ordering::Relaxed);
    }
}

impl Overlay {
    /// Returns the end of a range, or an error if the range ends beyond the database.
    fn check_range(&self, offset: u64, bytes: usize) -> io::Result<u64> {
        let end = offset.checked_add(bytes as u64).filter(|end| *end <= self.length);
        end.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }
}

/// Part of a block that a range of bytes covers.
struct Part {
    in_block: std::ops::Range<usize>,
    in_range: std::ops::Range<usize>,
}

impl Part {
    /// Returns the part of the block `index` that is covered by the bytes from `offset` to `end`.
    fn new(index: u64, offset: u64, end: u64) -> Self {
        let block = index * BLOCK_BYTES;
        let (from, to) = (block.max(offset), (block + BLOCK_BYTES).min(end));
        let relative = |base: u64| {
            let position = |at: u64| usize::try_from(at.saturating_sub(base)).unwrap_or_default();
            position(from)..position(to)
        };
        Self { in_block: relative(block), in_range: relative(offset) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;
    use std::io::Write as _;

    /// An overlay behaves like a copy of the file, for operations at pseudo-random positions.
    #[test]
    fn overlay_over_file_matches_copy_in_memory() {
        let mut file = tempfile::tempfile().expect("a temporary file");
        let content: Vec<u8> = (0..30_000_u32).map(|at| (at % 251) as u8).collect();
        file.write_all(&content).expect("the file is written");
        let backend = FileBackend::new(file.try_clone().expect("a copy of the descriptor"));
        let overlay = OverlayBackend::new(Some(backend.expect("a backend"))).expect("an overlay");
        let expected = InMemoryBackend::new();
        expected.set_len(content.len() as u64).expect("in memory");
        expected.write(0, &content).expect("in memory");
        let mut random = 1_u64;
        let mut next = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % bound
        };
        for step in 0..2_000_u64 {
            let length = expected.len().expect("in memory");
            match next(8) {
                0 => {
                    let length = next(60_000);
                    overlay.set_len(length).expect("in memory");
                    expected.set_len(length).expect("in memory");
                }
                1..4 => {
                    let offset = next(length + 1);
                    let bytes = next(10_000).min(length - offset);
                    let data = vec![step as u8; usize::try_from(bytes).expect("small")];
                    overlay.write(offset, &data).expect("in range");
                    expected.write(offset, &data).expect("in range");
                }
                _ => {
                    let offset = next(length + 1);
                    let bytes = usize::try_from(next(10_000).min(length - offset)).expect("small");
                    let (mut read, mut wanted) = (vec![1; bytes], vec![2; bytes]);
                    overlay.read(offset, &mut read).expect("in range");
                    expected.read(offset, &mut wanted).expect("in range");
                    assert!(read == wanted, "step {step}, {bytes} bytes at {offset}");
                }
            }
            assert_eq!(overlay.len().expect("in memory"), expected.len().expect("in memory"));
        }
        assert!(overlay.read(u64::MAX, &mut [0]).is_err());
        assert!(overlay.memory_bytes().load(Ordering::Relaxed) <= 61_440);
        let mut after = vec![0; content.len()];
        let file = FileBackend::new(file).expect("a backend");
        file.read(0, &mut after).expect("the file is unchanged");
        assert!(after == content, "the file is never written");
    }
}
