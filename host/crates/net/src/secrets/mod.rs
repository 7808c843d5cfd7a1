//! Secrets: references in settings (`references`), their replacement (`source_secrets`), and redaction of the
//! secrets in messages (`redaction`).

mod redaction;
mod references;
mod source_secrets;

pub use references::Reference;
pub use source_secrets::Secrets;

#[cfg(test)]
mod tests;
