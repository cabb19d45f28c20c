//! Checks histories of transactions that append to lists and read them: could they have happened one after the other,
//! in an order that agrees with when clients were told what (strict serializability)?
//!
//! Lists make a database show its hand, which is the idea of Jepsen's Elle (Kingsbury and Alvaro, VLDB 2020): every
//! element is appended once, so a list that is read tells which appends came before, and in which order. From that
//! follow the dependencies between transactions that no database can hide:
//!
//! * *ww*: one appended to a list after another one did;
//! * *wr*: one saw what another one had appended;
//! * *rw*: one did not see what another one appended, so it came before;
//! * *time*: one was acknowledged before another one began.
//!
//! A serial execution has no cycle of these, so every cycle is a violation, and its edges are the explanation. What
//! shows without a cycle (dirty reads, elements that are there twice, lists that contradict each other) is looked for
//! first. Every finding is sound: none depends on a guess about an outcome.
//!
//! An outcome that is *unknown* may or may not have happened: such a transaction counts from when somebody saw one of
//! its elements, and never as something that ended.
//!
//! # Limits
//! * It says that a history is wrong, never that a database is right: what nobody read, nobody checked. A load ends
//!   with a read of every list for that reason.
//! * One order per list is taken from the longest read of it; elements beyond it have no order among each other.
//! * Predicates, updates and deletions are not in the vocabulary: anomalies that need them (phantoms) are not found.
//! * Of many cycles through the same transactions one is told, and each finding takes a transaction out of the search
//!   for further ones; at most [`FINDINGS_MAX`] are told. So the count of findings is not the count of anomalies.
//! * Time is the client's: a history spans one clock.

mod anomaly;
mod check;
mod cycle;
mod direct;
mod graph;
mod transaction;

pub use anomaly::{Anomaly, Finding};
pub use check::{FINDINGS_MAX, HistoryError, Report, check};
pub use transaction::{Outcome, Step, Transaction};
