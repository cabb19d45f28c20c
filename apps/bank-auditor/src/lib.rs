//! An auditor of the bank: recomputes balances, interest, loans and the general ledger from the entries alone, and
//! says where the books differ.
//!
//! He was not told how the bank computes. From the agreements (rates as text, terms, due dates) and the entries he works
//! day by day, with fractions of integers of any size, from the first entry to the last closed day. This crate depends on
//! none of the crates whose work it judges; a test of the workspace's architecture keeps it so.
//!
//! Pure: [`Books`] in, a [`Report`] out. Who fills the books reads tables; see [`books`] for what each field is.

mod calendar;
mod deposits;
mod finding;
mod fraction;
mod ledger;
mod loans;
mod postings;

pub mod books;

pub use books::Books;
pub use finding::{Finding, Report};

/// Most findings of one kind that are told; all are counted. Who has this many looks for one cause.
pub const TOLD_MAX: usize = 100;

/// Audits books.
pub fn audit(books: &Books) -> Report {
    let mut report = Report::default();
    postings::audit(books, &mut report);
    let mut expected = ledger::Expected::default();
    deposits::audit(books, &mut expected, &mut report);
    loans::audit(books, &mut expected, &mut report);
    ledger::audit(books, &expected, &mut report);
    report
}
