//! What the end of a day books.

use std::collections::BTreeMap;
use std::fmt;

use dujiang_bank_general_ledger::{Chart, Entry, Event, Mapping, Place, ProductClass, Purpose, Side};
use dujiang_routing::AccountNumber;
use dujiang_types::{Currency, Money};
use jiff::civil::Date;

use crate::Why;

/// What a posting does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PostingKind {
    /// Interest of deposits that has accrued; for all accounts of a slice, place, product and currency together.
    DepositAccrual,
    /// Settled interest, to one account.
    Interest,
    /// Tax withheld of it.
    InterestTax,
    /// What a borrower owes, from his deposit.
    Repayment,
    /// Interest of loans that has accrued; together.
    LoanAccrual,
    /// Penalty that has accrued; together.
    PenaltyAccrual,
    /// The loss allowance; together.
    Provision,
}

impl PostingKind {
    /// As it is written in keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DepositAccrual => "deposit-accrual",
            Self::Interest => "interest",
            Self::InterestTax => "interest-tax",
            Self::Repayment => "repayment",
            Self::LoanAccrual => "loan-accrual",
            Self::PenaltyAccrual => "penalty-accrual",
            Self::Provision => "provision",
        }
    }
}

/// By what a posting is known: a day posts it once for an account, or for the slice that begins with an account.
///
/// Stored as the posting's idempotency key, it is a second reason, beside the cursor, why nothing is booked twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PostingKey {
    /// The day whose end it belongs to.
    pub day: Date,
    /// What it does.
    pub kind: PostingKind,
    /// The account, or the first one of the slice.
    pub account: AccountNumber,
    /// For what is booked together: in which order it comes within the slice.
    pub part: u32,
}

impl fmt::Display for PostingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "end-of-day/{}/{}/{}/{}", self.day, self.kind.as_str(), self.account, self.part)
    }
}

/// A line of a posting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Whose it is; none for the bank's own.
    pub account: Option<AccountNumber>,
    /// Where, under which code, on which side, how much.
    pub entry: Entry,
}

/// A posting. Debits and credits are equal in each place and currency; at most sixteen lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// By what it is known.
    pub key: PostingKey,
    /// The business day it is booked on.
    pub booked_on: Date,
    /// From when it counts for interest.
    pub value_on: Date,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// An account as one end of a booking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its number.
    pub account: AccountNumber,
    /// In whose books.
    pub place: Place,
    /// What it is to the general ledger.
    pub product: ProductClass,
}

/// One side of a booking: whose, and the products whose codes the event takes there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leg<'a> {
    pub(crate) end: &'a End,
    pub(crate) product: &'a ProductClass,
    pub(crate) other: Option<&'a ProductClass>,
}

impl<'a> Leg<'a> {
    /// A side by its own product.
    pub(crate) fn of(end: &'a End) -> Self {
        Self { end, product: &end.product, other: None }
    }
}

/// The general ledger that is booked into.
#[derive(Debug, Clone, Copy)]
pub struct Books<'a> {
    /// Its accounts.
    pub chart: &'a Chart,
    /// Which codes an event is booked under.
    pub mapping: &'a Mapping,
}

impl Books<'_> {
    /// The lines of an event, each side in the books of its own, with what is between two branches. An amount below zero
    /// turns the sides.
    pub(crate) fn lines(
        self,
        event: Event,
        debit: Leg<'_>,
        credit: Leg<'_>,
        amount: Money,
    ) -> Result<Vec<Line>, Why> {
        if amount.minor == 0 {
            return Ok(Vec::new());
        }
        let (from, to) = (&debit.end.place, &credit.end.place);
        if from.member != to.member {
            return Err(Why::OtherMember);
        }
        let positive =
            if amount.minor < 0 { amount.checked_neg().map_err(|_| Why::OutOfRange)? } else { amount };
        let at = |leg: Leg<'_>| self.mapping.entries(event, &leg.end.place, leg.product, leg.other, positive);
        let [left, _] = at(debit)?;
        let [_, right] = at(credit)?;
        let mut lines = vec![
            Line { account: Some(debit.end.account), entry: left },
            Line { account: Some(credit.end.account), entry: right },
        ];
        if from != to {
            let code = self.chart.for_purpose(Purpose::Interbranch);
            for (place, side) in [(from, Side::Credit), (to, Side::Debit)] {
                let entry = Entry { place: place.clone(), code, side, amount: positive };
                lines.push(Line { account: None, entry });
            }
        }
        if amount.minor < 0 {
            for line in &mut lines {
                line.entry.side = turned(line.entry.side);
            }
        }
        Ok(lines)
    }
}

fn turned(side: Side) -> Side {
    match side {
        Side::Debit => Side::Credit,
        Side::Credit => Side::Debit,
    }
}

/// What grows by the day, and is booked for many accounts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Growth {
    DepositInterest,
    LoanInterest,
    Penalty,
    Allowance,
}

impl Growth {
    fn booked_as(self) -> (PostingKind, Event) {
        match self {
            Self::DepositInterest => (PostingKind::DepositAccrual, Event::DepositInterestAccrued),
            Self::LoanInterest => (PostingKind::LoanAccrual, Event::LoanInterestAccrued),
            Self::Penalty => (PostingKind::PenaltyAccrual, Event::PenaltyAccrued),
            Self::Allowance => (PostingKind::Provision, Event::LoanImpaired),
        }
    }
}

/// What is booked together: of a million accounts' interest a day the general ledger wants the sum.
#[derive(Debug, Default)]
pub(crate) struct Together(BTreeMap<(Growth, Place, ProductClass, Currency), i128>);

impl Together {
    pub(crate) fn add(&mut self, growth: Growth, end: &End, currency: Currency, minor: i64) {
        if minor != 0 {
            let key = (growth, end.place.clone(), end.product.clone(), currency);
            *self.0.entry(key).or_default() += i128::from(minor);
        }
    }

    /// One posting for each place, product and currency, on the day that ends.
    pub(crate) fn postings(
        self,
        books: Books<'_>,
        day: Date,
        first: AccountNumber,
    ) -> Result<Vec<Posting>, Why> {
        let mut postings = Vec::new();
        for (part, ((growth, place, product, currency), minor)) in (0..).zip(self.0) {
            let amount = Money::new(i64::try_from(minor).map_err(|_| Why::OutOfRange)?, currency);
            let (kind, event) = growth.booked_as();
            let end = End { account: first, place, product };
            let mut lines = books.lines(event, Leg::of(&end), Leg::of(&end), amount)?;
            // It is many accounts', so it is none's.
            for line in &mut lines {
                line.account = None;
            }
            if !lines.is_empty() {
                let key = PostingKey { day, kind, account: first, part };
                postings.push(Posting { key, booked_on: day, value_on: day, lines });
            }
        }
        Ok(postings)
    }
}
