//! Trial balances: what entries come to per member, branch, currency and code. Sums have 128 bits and do not overflow.

use std::collections::BTreeMap;

use dujiang_bank_parties::MemberId;
use dujiang_types::Currency;

use crate::chart::{Chart, Class, Code, Purpose, Side};
use crate::mapping::{Entry, Place};

/// Turnover on both sides, in minor units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turnover {
    /// Sum of debits.
    pub debits: i128,
    /// Sum of credits.
    pub credits: i128,
}

impl Turnover {
    /// The balance: above zero for debit.
    pub fn balance(self) -> i128 {
        self.debits - self.credits
    }

    fn add(&mut self, other: Self) {
        self.debits += other.debits;
        self.credits += other.credits;
    }
}

/// Why entries make no trial balance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrialError {
    /// Under a code that nothing is booked under.
    #[error("an entry of {} at {} is booked under {code}: no account of the chart", place.member, place.branch)]
    Code {
        /// In whose books.
        place: Place,
        /// The code.
        code: Code,
    },
    /// Of nothing or less.
    #[error("an entry of {} at {} under {code} has no amount above zero", place.member, place.branch)]
    Amount {
        /// In whose books.
        place: Place,
        /// The code.
        code: Code,
    },
}

/// Books that do not balance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the books of {} at {} in {currency} are off by {off_minor} minor units", place.member, place.branch)]
pub struct Imbalance {
    /// Whose.
    pub place: Place,
    /// In which currency.
    pub currency: Currency,
    /// Debits less credits.
    pub off_minor: i128,
}

/// A balance that stands on the side where it should not: told, and no error; an overdrawn current account does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusual {
    /// Whose.
    pub place: Place,
    /// In which currency.
    pub currency: Currency,
    /// Under which code.
    pub code: Code,
    /// Above zero for debit.
    pub balance_minor: i128,
}

/// What entries come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrialBalance {
    lines: BTreeMap<(Place, Currency, Code), Turnover>,
}

impl TrialBalance {
    /// Adds entries up, each under an account of the chart.
    pub fn of<'a>(chart: &Chart, entries: impl IntoIterator<Item = &'a Entry>) -> Result<Self, TrialError> {
        let mut trial = Self::default();
        for entry in entries {
            let place = || entry.place.clone();
            if !chart.is_bookable(entry.code) {
                return Err(TrialError::Code { place: place(), code: entry.code });
            }
            if entry.amount.minor <= 0 {
                return Err(TrialError::Amount { place: place(), code: entry.code });
            }
            let line = trial.lines.entry((place(), entry.amount.currency, entry.code)).or_default();
            match entry.side {
                Side::Debit => line.debits += i128::from(entry.amount.minor),
                Side::Credit => line.credits += i128::from(entry.amount.minor),
            }
        }
        Ok(trial)
    }

    /// Adds another one: of another unit, or of another day.
    pub fn merge(&mut self, other: &Self) {
        for (key, turnover) in &other.lines {
            self.lines.entry(key.clone()).or_default().add(*turnover);
        }
    }

    /// Its lines.
    pub fn lines(&self) -> impl Iterator<Item = (&Place, Currency, Code, Turnover)> {
        self.lines.iter().map(|((place, currency, code), turnover)| (place, *currency, *code, *turnover))
    }

    /// Every member, branch and currency whose debits and credits differ; none if the books balance.
    pub fn imbalances(&self) -> Vec<Imbalance> {
        let mut sums: BTreeMap<(&Place, Currency), i128> = BTreeMap::new();
        for (place, currency, _, turnover) in self.lines() {
            *sums.entry((place, currency)).or_default() += turnover.balance();
        }
        let off = sums.into_iter().filter(|(_, off_minor)| *off_minor != 0);
        off.map(|((place, currency), off_minor)| Imbalance { place: place.clone(), currency, off_minor })
            .collect()
    }

    /// Balances that stand on the unusual side.
    pub fn unusual(&self, chart: &Chart) -> Vec<Unusual> {
        let unusual = self.lines().filter(|(_, _, code, turnover)| {
            chart.get(*code).is_some_and(|account| !account.normal.fits(turnover.balance()))
        });
        let told = |(place, currency, code, turnover): (&Place, Currency, Code, Turnover)| Unusual {
            place: place.clone(),
            currency,
            code,
            balance_minor: turnover.balance(),
        };
        unusual.map(told).collect()
    }

    /// Turnover of headings: that of the accounts below them.
    pub fn headings(&self) -> BTreeMap<(Place, Currency, Code), Turnover> {
        let mut headings: BTreeMap<_, Turnover> = BTreeMap::new();
        for (place, currency, code, turnover) in self.lines() {
            let heading = code.parent().unwrap_or(code);
            headings.entry((place.clone(), currency, heading)).or_default().add(turnover);
        }
        headings
    }

    /// Balances of classes, per member and currency: above zero for debit. They come to nothing together.
    pub fn classes(&self, chart: &Chart) -> BTreeMap<(MemberId, Currency, Class), i128> {
        let mut classes = BTreeMap::new();
        for (place, currency, code, turnover) in self.lines() {
            if let Some(account) = chart.get(code) {
                let key = (place.member.clone(), currency, account.class);
                *classes.entry(key).or_default() += turnover.balance();
            }
        }
        classes
    }

    /// What is open between the branches of each member, per currency: zero once everything has arrived.
    pub fn open_between_branches(&self, chart: &Chart) -> BTreeMap<(MemberId, Currency), i128> {
        let code = chart.for_purpose(Purpose::Interbranch);
        let mut open = BTreeMap::new();
        for (place, currency, _, turnover) in self.lines().filter(|line| line.2 == code) {
            *open.entry((place.member.clone(), currency)).or_default() += turnover.balance();
        }
        open
    }

    /// What is open over all members, per currency, for a purpose such as [`Purpose::Intermember`] or
    /// [`Purpose::InTransit`]: zero once everything has arrived.
    pub fn open_over_all(&self, chart: &Chart, purpose: Purpose) -> BTreeMap<Currency, i128> {
        let code = chart.for_purpose(purpose);
        let mut open = BTreeMap::new();
        for (_, currency, _, turnover) in self.lines().filter(|line| line.2 == code) {
            *open.entry(currency).or_default() += turnover.balance();
        }
        open
    }
}
