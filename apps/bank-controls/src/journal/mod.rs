//! The business journal: acts in a chain of digests, so that a change afterwards shows.
//!
//! Each record's digest covers its number, its act and the digest of the record before it. Whoever changes, removes,
//! inserts or reorders records breaks the chain at that place, and [`verify`] names it. Whoever computes the chain anew
//! from there on, or cuts it off, is found by *checkpoints*: number and digest of a record, kept where the journal's
//! writer cannot change them (the platform's signed evidence, another institution).
//!
//! # Limits
//! What comes after the last checkpoint can be cut off or computed anew without a trace, so checkpoints are made often.
//! The chain says that records were not changed since they were written, never that what they say is true.

mod act;
mod chain;
mod digest;
mod verify;

pub use act::{Act, ActError, Actor, Approval, STATE_BYTES_MAX, WORD_CHARS_MAX};
pub use chain::{Chain, Checkpoint, JournalId, Record};
pub use digest::Digest;
pub use verify::{Intact, Tampering, verify};
