//! Evidence: what happened in a move, a failover or a drill, written down so that someone who was not there, and who
//! does not trust who was, can check it.
//!
//! A [`Report`] is what is known; a [`Signer`] puts it into an [`Envelope`]; each report names the one before it by its
//! digest, so that none can be taken out unseen ([`chain::check`]). [`html::page`] shows one to people, in one file that
//! carries its own envelope.

pub mod chain;
mod digest;
mod envelope;
pub mod html;
mod key;
mod report;

pub use digest::{Digest, Hasher};
pub use envelope::{Envelope, EnvelopeError, Signature};
pub use key::{KeyError, PublicKey, Signer, Suite};
pub use report::{
    Books, FORMAT, Figure, Kind, Layer, Link, Load, Moment, Outcome, Report, Requests, Rule, UnitPart,
};
