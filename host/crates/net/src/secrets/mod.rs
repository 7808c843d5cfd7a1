//! Secrets: references in settings (`references`), their replacement (`resolve_references`), and redaction of the
//! secrets in messages (`redaction`).

mod redaction;
mod references;
mod resolve_references;

pub use references::Reference;
pub use resolve_references::{Secrets, zeroize_texts};

#[cfg(test)]
mod tests;
