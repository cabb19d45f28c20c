//! The end of a unit's business day, as pure state: what to read, what that comes to, and what to write.
//!
//! * [`day`]: the business day of a unit as an explicit state; its steps, cut into ranges with a recorded cursor each;
//! * [`deposits`]: a day's interest of deposits, settlement on settlement days, recomputation after back-dated entries;
//! * [`loans`]: what falls due is collected; lateness, penalty, class and what is set aside;
//! * [`journal`]: what is booked, with keys by which nothing is booked twice.
//!
//! # How a step goes
//! ```text
//! loop: day.next_slice(range)            which accounts come next
//!       read their rows                  in one transaction with what follows
//!       deposits::accrue / loans::close_day   rows in, states and postings out
//!       day.applied(slice, ..)           moves the cursor; a stale slice is refused
//!       write states, postings and day   and commit
//! ```
//! States, postings and cursor are written in one transaction, so a crash leaves either all of a slice or nothing of it,
//! and whoever comes next begins at the cursor. That is all there is to resuming. Rows carry their own day besides: an
//! account that has had its day is left alone, whatever the cursor says.
//!
//! # Which day
//! Business days are those of the calendar: the bank never closes, and interest grows on Sundays. From the cut-off on
//! bookings belong to the next day. What the end of a day finds out is booked on that day (interest accrued, what was
//! collected, what is set aside), settled interest on the next one, which it joins.
//!
//! Pure: no IO, no clock, no runtime.

pub mod day;
pub mod deposits;
pub mod journal;
pub mod loans;

pub use day::{DayError, Phase, SliceId, Step, UnitDay};
pub use journal::{Books, Line, Posting, PostingKey, PostingKind};

use dujiang_bank_general_ledger::mapping::MappingError;
use dujiang_bank_rules::RuleError;
use dujiang_routing::AccountNumber;
use jiff::civil::Date;

/// Most accounts of a slice: a transaction of some hundred milliseconds, whose postings no payment waits for long.
pub const ACCOUNTS_PER_SLICE_MAX: usize = 4_096;

/// Why a slice could not be computed. Nothing of it is to be written; the day stays where it is until that is put right.
#[derive(Debug, thiserror::Error)]
#[error("account {account} cannot be given its day")]
pub struct SliceError {
    /// Which account.
    pub account: AccountNumber,
    /// Why.
    #[source]
    pub why: Why,
}

/// Why an account could not be given its day.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// A rule refused.
    #[error("a rule could not be applied")]
    Rule(#[from] RuleError),
    /// Nothing can be booked.
    #[error("the general ledger has no codes for it")]
    Mapping(#[from] MappingError),
    /// Days before this one were left out.
    #[error("it has had its days up to {until} only: days are closed one after the other")]
    Behind {
        /// The first day it has not had.
        until: Date,
    },
    /// Movements do not come to the balance.
    #[error("its movements come to {movements_minor} minor units, its balance is {balance_minor}")]
    Balance {
        /// What movements and interest come to.
        movements_minor: i64,
        /// What the row says.
        balance_minor: i64,
    },
    /// Interest is paid elsewhere, and nothing says where.
    #[error("its interest is not added to it, and no account is named that it is paid to")]
    NoPayee,
    /// The other account is another member's.
    #[error("the other account is another member's: interest and repayments stay within a member")]
    OtherMember,
    /// More than can be booked.
    #[error("the amount is out of range")]
    OutOfRange,
    /// Too many accounts at once.
    #[error("a slice has at most {ACCOUNTS_PER_SLICE_MAX} accounts")]
    TooMany,
}

pub(crate) fn at(account: AccountNumber) -> impl FnOnce(Why) -> SliceError {
    move |why| SliceError { account, why }
}
