//! A product through time: its versions, from when and for whom each is launched, and which of them holds for an account.
//!
//! Versions and launches are only ever added, and a launch begins after the day it is decided on. So what held on a day
//! that is over never changes, whatever is sold tomorrow.

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::fee::Fee;
use super::limit::Limits;
use super::{Fault, Kind, Product, VersionOf};
use crate::terms::Fixing;
use crate::{Dated, InterestTerms, RateRule, RuleError, Since};

/// A product through time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProductLine {
    code: String,
    versions: Vec<Product>,
    launches: Vec<Launch>,
}

/// From when a version is in force for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// The version, from 1; none if the product is not sold any more. What was sold lives on.
    pub version: Option<u32>,
    /// The first day.
    pub from: Date,
    /// For whom.
    #[serde(default)]
    pub audience: Audience,
}

/// For whom: members of the group and cohorts of customers. What is not said is not restricted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audience {
    /// Credit unions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<BTreeSet<String>>,
    /// Cohorts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cohorts: Option<BTreeSet<String>>,
}

/// Whom an account belongs to and under what it was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// The credit union.
    pub member: String,
    /// The customer's cohort.
    pub cohort: String,
    /// The day the account was opened.
    pub opened: Date,
    /// The version it was opened under.
    pub version: u32,
}

/// The terms of an account on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms<'line> {
    /// What the product is.
    pub kind: &'line Kind,
    /// What it costs.
    pub fees: &'line [Fee],
    /// Its bounds.
    pub limits: &'line Limits,
}

/// Why a version or a launch was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The product is wrong.
    #[error("the product has {} faults", .0.len())]
    Faulty(Vec<Fault>),
    /// Another kind of product, or another currency: accounts of the line could not follow it.
    #[error("a line stays of one kind and currency: make a new product for another")]
    OtherKind,
    /// There is no such version.
    #[error("there is no version {0}")]
    NoVersion(u32),
    /// The launch begins on a day that has begun.
    #[error("a launch begins after today, {today}, and not on {from}: what held until then stays")]
    Past {
        /// The day it was to begin.
        from: Date,
        /// Today.
        today: Date,
    },
    /// Tiers would change while days are waiting for the settlement day's rate.
    #[error(
        "interest is fixed on the settlement day, so its tiers and days may change the day after one, not on {0}"
    )]
    WithinPeriod(Date),
    /// Nothing is on offer.
    #[error("no version is in force for that member and cohort on {0}")]
    NotOnOffer(Date),
    /// A rule failed.
    #[error("a rule could not be applied")]
    Rule(#[from] RuleError),
}

impl Audience {
    fn covers(&self, member: &str, cohort: &str) -> bool {
        let within = |names: Option<&BTreeSet<String>>, name| names.is_none_or(|names| names.contains(name));
        within(self.members.as_ref(), member) && within(self.cohorts.as_ref(), cohort)
    }
}

impl ProductLine {
    /// A line without versions.
    pub fn new(code: impl Into<String>) -> Self {
        Self { code: code.into(), versions: Vec::new(), launches: Vec::new() }
    }

    /// The product's code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Adds a version, which is in force for nobody until it is launched, and returns its number.
    pub fn add(&mut self, product: Product) -> Result<u32, LineError> {
        let faults = product.faults();
        if !faults.is_empty() {
            return Err(LineError::Faulty(faults));
        }
        if let Some(last) = self.versions.last() {
            let same_kind = std::mem::discriminant(&last.kind) == std::mem::discriminant(&product.kind);
            if !same_kind || last.currency != product.currency {
                return Err(LineError::OtherKind);
            }
        }
        self.versions.push(product);
        Ok(u32::try_from(self.versions.len()).map_err(|_| RuleError::OutOfRange)?)
    }

    /// A version by its number.
    pub fn version(&self, number: u32) -> Result<&Product, LineError> {
        let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        index.and_then(|index| self.versions.get(index)).ok_or(LineError::NoVersion(number))
    }

    /// Decides on `today` that a version is in force from a later day on. Only the very first launch may begin on the same
    /// day: before it there is nothing that could change.
    pub fn launch(&mut self, launch: Launch, today: Date) -> Result<(), LineError> {
        let begins = if self.launches.is_empty() { launch.from >= today } else { launch.from > today };
        if !begins {
            return Err(LineError::Past { from: launch.from, today });
        }
        if let Some(number) = launch.version {
            let new = self.version(number)?;
            for before in self.launches.iter().filter_map(|before| before.version) {
                check_period(self.version(before)?, new, launch.from)?;
            }
        }
        self.launches.push(launch);
        Ok(())
    }

    /// The version new accounts are opened under on a day.
    pub fn on_offer(&self, member: &str, cohort: &str, day: Date) -> Result<(u32, &Product), LineError> {
        let launch = self.in_force(member, cohort, day, |_| true);
        let number = launch.and_then(|launch| launch.version).ok_or(LineError::NotOnOffer(day))?;
        Ok((number, self.version(number)?))
    }

    /// The last launch that covers a customer and has begun; of several that begin on a day the one decided on last.
    fn in_force(
        &self,
        member: &str,
        cohort: &str,
        day: Date,
        counts: impl Fn(&Launch) -> bool,
    ) -> Option<&Launch> {
        let begun = self.launches.iter().filter(|launch| launch.from <= day && counts(launch));
        begun.filter(|launch| launch.audience.covers(member, cohort)).max_by_key(|launch| launch.from)
    }

    /// The terms of an account on a day.
    pub fn terms(&self, agreement: &Agreement, day: Date) -> Result<Terms<'_>, LineError> {
        let opening = self.version(agreement.version)?;
        let sold =
            self.in_force(&agreement.member, &agreement.cohort, day, |launch| launch.version.is_some());
        // Who has moved to where nothing was ever launched keeps what he has.
        let today = match sold.and_then(|launch| launch.version) {
            Some(number) => self.version(number)?,
            None => opening,
        };
        let of = |version| match version {
            VersionOf::Opening => opening,
            VersionOf::Day => today,
        };
        Ok(Terms {
            kind: &of(opening.holds.kind).kind,
            fees: &of(opening.holds.fees).fees,
            limits: &of(opening.holds.limits).limits,
        })
    }

    /// The terms of an account's daily interest by the day each begins, up to `until`: what [`crate::replay::replay`] takes.
    /// None if the product has no daily interest.
    pub fn interest(
        &self,
        agreement: &Agreement,
        until: Date,
    ) -> Result<Option<Dated<&InterestTerms>>, LineError> {
        let starts = self.launches.iter().map(|launch| launch.from);
        let mut days: Vec<Date> = starts.filter(|day| *day > agreement.opened && *day <= until).collect();
        days.push(agreement.opened);
        days.sort_unstable();
        days.dedup();
        let mut by_day: Vec<Since<&InterestTerms>> = Vec::new();
        for from in days {
            let Some(value) = self.terms(agreement, from)?.kind.interest() else { return Ok(None) };
            if by_day.last().is_none_or(|last| last.value != value) {
                by_day.push(Since { from, value });
            }
        }
        Ok(Some(Dated::new(by_day)?))
    }
}

/// Refuses a change of tiers or days within a period whose days wait for the settlement day's rate.
fn check_period(before: &Product, after: &Product, from: Date) -> Result<(), LineError> {
    let (Some(old), Some(new)) = (before.kind.interest(), after.kind.interest()) else { return Ok(()) };
    let waits = [old, new].iter().any(|terms| terms.fixing == Fixing::SettlementDay);
    let follows = before.holds.kind == VersionOf::Day;
    if !waits || !follows || same_shape(old, new) {
        return Ok(());
    }
    let eve = from.yesterday().map_err(|_| RuleError::OutOfRange)?;
    for terms in [old, new] {
        if terms.settlement.next(eve)? != Some(eve) {
            return Err(LineError::WithinPeriod(from));
        }
    }
    Ok(())
}

/// True if two terms put the same balance into the same tiers for the same days.
fn same_shape(old: &InterestTerms, new: &InterestTerms) -> bool {
    let froms = |rule: &RateRule| match rule {
        RateRule::Single(_) | RateRule::ByTerm(_) => (0, Vec::new()),
        RateRule::WholeBalance(tiers) => (1, tiers.iter().map(|tier| tier.from_minor).collect()),
        RateRule::Marginal(tiers) => (2, tiers.iter().map(|tier| tier.from_minor).collect::<Vec<_>>()),
    };
    let rest = |terms: &InterestTerms| (terms.fixing, terms.day_count, terms.settlement, terms.bearing);
    froms(&old.rate) == froms(&new.rate) && rest(old) == rest(new)
}
