//! Who the bank's customers are, how they stand to each other, whose an account is, and what its state permits.
//!
//! * [`identity`]: identity documents with their check characters; what is printed of them is masked;
//! * [`party`]: persons and companies; [`relation`]: legal representatives, signatories, beneficial owners, guardians;
//! * [`institution`]: the member credit union and the branch that own every account;
//! * [`state`]: states of parties and accounts, blocks, and what each permits (table in `README.md`).
//!
//! Pure: no IO, no clock. The day is an input.

pub mod identity;
pub mod institution;
pub mod mask;
pub mod party;
pub mod relation;
pub mod state;

pub use identity::IdentityDocument;
pub use institution::{AccountOwner, BranchId, MemberId};
pub use party::{Party, PartyId, PartyKind};
pub use relation::{Relation, RelationKind, RelationRefusal};
