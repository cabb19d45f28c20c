//! The terms of interest: which rate, fixed when, counted and settled how.

use dujiang_types::Money;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::{Dated, DayCount, PostedRates, Rate, RuleError, Settlement, Since};

/// Where a rate comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RateSource {
    /// Always the same: `{"fixed": "0.35%"}`.
    Fixed(Rate),
    /// A posted rate and a spread: `{"posted": {"name": "lpr_1y", "spread": "0.5%"}}`.
    Posted {
        /// Name of the posted rate.
        name: String,
        /// What is added to it; may be negative.
        #[serde(default = "no_spread")]
        spread: Rate,
    },
}

fn no_spread() -> Rate {
    Rate::ZERO
}

impl RateSource {
    /// The rate of a day.
    pub fn on(&self, day: Date, posted: &PostedRates) -> Result<Rate, RuleError> {
        match self {
            Self::Fixed(rate) => Ok(*rate),
            Self::Posted { name, spread } => posted.at(name, day)?.plus(*spread),
        }
    }

    fn posted_name(&self) -> Option<&str> {
        match self {
            Self::Fixed(_) => None,
            Self::Posted { name, .. } => Some(name),
        }
    }
}

/// A tier by balance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalanceTier {
    /// The smallest balance of the tier in minor units; the first tier's is 0.
    pub from_minor: i64,
    /// Its rate.
    pub rate: RateSource,
}

/// A tier by term.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermTier {
    /// The shortest term of the tier in months.
    pub from_months: u16,
    /// Its rate.
    pub rate: RateSource,
}

/// Which rate a balance earns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateRule {
    /// One.
    Single(RateSource),
    /// The whole balance earns the rate of the tier it lies in. Tiers rise.
    WholeBalance(Vec<BalanceTier>),
    /// Each part of the balance earns the rate of the tier that part lies in. Tiers rise.
    Marginal(Vec<BalanceTier>),
    /// The rate of the longest tier that is not longer than the account's term. Tiers rise.
    ByTerm(Vec<TermTier>),
}

/// Which day's rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fixing {
    /// Each day's own: interest is computed in segments when the rate changes, as for corporate current deposits.
    EachDay,
    /// The settlement day's for the whole period, the closing day's when the account is closed, as for personal
    /// current deposits.
    SettlementDay,
    /// The opening day's for the whole term, as for fixed-term deposits.
    OpeningDay,
}

/// What of a balance bears interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bearing {
    /// All of it.
    #[default]
    MinorUnits,
    /// Whole units of the currency: savings in China bear interest from the yuan, jiao and fen do not.
    MajorUnits,
}

/// What becomes of what lies between two minor units when interest is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remainder {
    /// It is carried into the next period: what was ever settled is what was ever earned, rounded once.
    #[default]
    Carried,
    /// It is dropped: each settlement is its own period's interest, rounded.
    Dropped,
}

/// Terms of interest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterestTerms {
    /// Which rate.
    pub rate: RateRule,
    /// Of which day.
    pub fixing: Fixing,
    /// How days are counted.
    pub day_count: DayCount,
    /// When it is settled.
    pub settlement: Settlement,
    /// Whether settled interest joins the principal, the day after. Otherwise it is paid elsewhere.
    pub compounds: bool,
    /// What bears interest.
    #[serde(default)]
    pub bearing: Bearing,
    /// What becomes of remainders at settlement.
    #[serde(default)]
    pub remainder: Remainder,
    /// Tax withheld, as a share of the interest settled, at the rate of the settlement day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax: Option<RateSource>,
}

/// What of an account its rates depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The day it was opened.
    pub on: Date,
    /// Its term, if it has one.
    pub months: Option<u16>,
}

/// The rates of some terms for a stretch of days, looked up once for many accounts and days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotes<'terms> {
    pub(crate) terms: &'terms InterestTerms,
    /// Per day the rate of each tier.
    rates: Dated<Vec<Rate>>,
    tax: Dated<Rate>,
    /// The last day they were looked up for.
    through: Date,
}

impl InterestTerms {
    /// Looks up the rates of the days from `from` to `to`, both included. Unless the rate is the opening day's or depends
    /// on the term, they are the same for all accounts.
    pub fn quotes(
        &self,
        posted: &PostedRates,
        opening: Opening,
        from: Date,
        to: Date,
    ) -> Result<Quotes<'_>, RuleError> {
        let sources = self.rate.sources(opening.months)?;
        let rates = if self.fixing == Fixing::OpeningDay {
            let value = rates_on(&sources, opening.on, posted)?;
            Dated::new(vec![Since { from: from.min(opening.on), value }])?
        } else {
            by_day(&sources, posted, from, to)?
        };
        let taxed: Vec<&RateSource> = self.tax.iter().collect();
        let tax = by_day(&taxed, posted, from, to)?;
        let tax = tax.iter().map(|since| Since {
            from: since.from,
            value: since.value.first().copied().unwrap_or(Rate::ZERO),
        });
        Ok(Quotes { terms: self, rates, tax: Dated::new(tax.collect())?, through: to })
    }
}

fn rates_on(sources: &[&RateSource], day: Date, posted: &PostedRates) -> Result<Vec<Rate>, RuleError> {
    sources.iter().map(|source| source.on(day, posted)).collect()
}

fn by_day(
    sources: &[&RateSource],
    posted: &PostedRates,
    from: Date,
    to: Date,
) -> Result<Dated<Vec<Rate>>, RuleError> {
    let names = sources.iter().filter_map(|source| source.posted_name());
    let histories: Vec<_> = names.filter_map(|name| posted.named(name)).collect();
    let last = crate::calendar::tomorrow(to)?;
    let mut days: Vec<Date> = histories.iter().flat_map(|rates| rates.changes(from, last)).collect();
    days.push(from);
    days.sort_unstable();
    days.dedup();
    let since = |day| Ok(Since { from: day, value: rates_on(sources, day, posted)? });
    Dated::new(days.into_iter().map(since).collect::<Result<_, RuleError>>()?)
}

impl RateRule {
    fn sources(&self, months: Option<u16>) -> Result<Vec<&RateSource>, RuleError> {
        Ok(match self {
            Self::Single(source) => vec![source],
            Self::WholeBalance(tiers) | Self::Marginal(tiers) => {
                tiers.iter().map(|tier| &tier.rate).collect()
            }
            Self::ByTerm(tiers) => {
                let months = months.unwrap_or(0);
                let tier = tiers.iter().rev().find(|tier| tier.from_months <= months);
                vec![&tier.ok_or(RuleError::NoTier(months))?.rate]
            }
        })
    }

    /// Number of rates it yields for a day.
    pub(crate) fn rates_len(&self) -> usize {
        match self {
            Self::Single(_) | Self::ByTerm(_) => 1,
            Self::WholeBalance(tiers) | Self::Marginal(tiers) => tiers.len(),
        }
    }

    /// Calls back with the index of each tier and how much of the bearing amount (not negative) lies in it.
    pub(crate) fn shares(
        &self,
        minor: i64,
        mut each: impl FnMut(usize, i64) -> Result<(), RuleError>,
    ) -> Result<(), RuleError> {
        match self {
            Self::Single(_) | Self::ByTerm(_) => each(0, minor),
            Self::WholeBalance(tiers) => {
                let above = tiers.partition_point(|tier| tier.from_minor <= minor);
                each(above.saturating_sub(1), minor)
            }
            Self::Marginal(tiers) => {
                for (index, tier) in tiers.iter().enumerate() {
                    let end = tiers.get(index + 1).map_or(minor, |next| next.from_minor.min(minor));
                    if end > tier.from_minor {
                        each(index, end - tier.from_minor)?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl Bearing {
    /// What of a balance bears interest, in minor units. An overdrawn deposit bears none: an overdraft is credit, and has
    /// terms of its own.
    pub(crate) fn of(self, balance: Money) -> i64 {
        let unit = match self {
            Self::MinorUnits => 1,
            Self::MajorUnits => 10_i64.pow(u32::from(balance.currency.decimals())),
        };
        let positive = balance.minor.max(0);
        positive - positive % unit
    }
}

impl<'terms> Quotes<'terms> {
    /// The terms they are of.
    pub fn terms(&self) -> &'terms InterestTerms {
        self.terms
    }

    /// The rate of each tier on a day.
    pub(crate) fn rates(&self, on: Date) -> Result<&[Rate], RuleError> {
        let rates = self.rates.at(on).filter(|_| on <= self.through);
        Ok(rates.ok_or_else(|| RuleError::NoValue { name: "rate".into(), on })?)
    }

    /// Refuses days the rates were not looked up for; `to` is not counted.
    pub(crate) fn check(&self, to: Date) -> Result<(), RuleError> {
        if to > crate::calendar::tomorrow(self.through)? {
            return Err(RuleError::NoValue { name: "rate".into(), on: to });
        }
        Ok(())
    }

    /// The days after `from` and before `to` on which a rate changes.
    pub(crate) fn changes(&self, from: Date, to: Date) -> impl Iterator<Item = Date> {
        self.rates.changes(from, to)
    }

    /// The rate of tax on a day.
    pub(crate) fn tax(&self, on: Date) -> Result<Rate, RuleError> {
        let rate = self.tax.at(on).filter(|_| on <= self.through);
        rate.copied().ok_or_else(|| RuleError::NoValue { name: "tax".into(), on })
    }
}
