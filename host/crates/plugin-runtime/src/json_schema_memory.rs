//! Memory of JSON Schema checks: the memory limit of each check, and the reservations of large checks.

use reloader_engine::types::Failure;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory limit of a check with an empty value and an empty schema, in bytes.
const BASE_MEMORY: usize = 24 << 20;
/// Growth of the memory limit for each byte of the value, in bytes. Measured memory use: 5 to 11 for ordinary JSON, 25
/// for a list of numbers, 66 for a list of objects that each have one member with an empty name. A large value of the
/// last two kinds can exceed the limit and is then rejected.
const MEMORY_PER_VALUE_BYTE: usize = 16;
/// Growth of the memory limit for each byte of the schema, in bytes. Measured memory use: 19 for a schema of 10,000
/// properties.
const MEMORY_PER_SCHEMA_BYTE: usize = 48;
/// Maximum memory limit of a check, in bytes, unless the source's own limit `memory` is higher.
const MAX_MEMORY: usize = 128 << 20;
/// Memory limit above which a check is large, in bytes. Large checks reserve memory in [`LargeChecks`].
const LARGE_CHECK_THRESHOLD: usize = 32 << 20;
/// Maximum memory of all concurrent large checks of a plugin host, in MiB.
const LARGE_CHECKS_MIB: usize = 256;

/// Semaphore over the memory that the large checks of a plugin host share: one permit for each MiB. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LargeChecks(Arc<Semaphore>);

impl Default for LargeChecks {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_CHECKS_MIB)))
    }
}

impl LargeChecks {
    /// Waits until a check with this memory limit may start, and returns its reservation; `None` for a small check,
    /// which needs no reservation.
    pub(crate) async fn reserve(
        &self,
        memory: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, Failure> {
        let mib = reserved_mib(memory);
        if mib == 0 {
            return Ok(None);
        }
        let reserved = Arc::clone(&self.0).acquire_many_owned(mib as u32).await;
        reserved.map(Some).map_err(|error| Failure::transient(error.to_string()))
    }
}

/// Returns the memory limit of a check, in bytes: a whole number of MiB, or the source's limit `memory` if it is
/// higher.
pub(crate) fn memory_limit(value_bytes: usize, schema_bytes: usize, source_limit: usize) -> usize {
    let for_value = value_bytes.saturating_mul(MEMORY_PER_VALUE_BYTE);
    let for_schema = schema_bytes.saturating_mul(MEMORY_PER_SCHEMA_BYTE);
    let grown = for_value.saturating_add(for_schema).min(MAX_MEMORY - BASE_MEMORY);
    (BASE_MEMORY + grown.next_multiple_of(1 << 20)).max(source_limit)
}

/// Returns the number of MiB, out of [`LARGE_CHECKS_MIB`], that a check with this memory limit reserves.
fn reserved_mib(memory: usize) -> usize {
    if memory > LARGE_CHECK_THRESHOLD { memory.div_ceil(1 << 20).min(LARGE_CHECKS_MIB) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_limit_grows_with_input_up_to_cap() {
        assert_eq!(memory_limit(0, 0, 0), 24 << 20);
        assert_eq!(memory_limit(1, 0, 0), 25 << 20);
        assert_eq!(memory_limit(1 << 20, 0, 0), 40 << 20);
        assert_eq!(memory_limit(0, 1 << 20, 0), 72 << 20);
        assert_eq!(memory_limit(8 << 20, 4 << 20, 0), 128 << 20);
        assert_eq!(memory_limit(8 << 20, 0, 200 << 20), 200 << 20);
        assert_eq!(memory_limit(usize::MAX, usize::MAX, 0), 128 << 20);
    }

    #[test]
    fn reservation_is_for_large_checks() {
        assert_eq!(reserved_mib(32 << 20), 0);
        assert_eq!(reserved_mib(40 << 20), 40);
        assert_eq!(reserved_mib(1 << 30), LARGE_CHECKS_MIB);
    }
}
