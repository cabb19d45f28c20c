//! Interest of deposits, recomputed day by day from what was agreed and from the movements by value date.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::civil::Date;

use crate::Report;
use crate::books::{Account, Books, Deposit, DepositTerms, Entry, Fixing, Kind, Product, RateOf, Remainder};
use crate::calendar::{after, days, settles, year};
use crate::fraction::Fraction;
use crate::ledger::Expected;

/// A rate by its texts: the rate and what is added to it.
type RateText<'b> = (&'b str, &'b str);

/// Announced rates by name and day.
struct Rates<'b>(HashMap<&'b str, BTreeMap<Date, &'b str>>);

impl<'b> Rates<'b> {
    fn new(books: &'b Books) -> Self {
        let mut named: HashMap<&str, BTreeMap<Date, &str>> = HashMap::new();
        for rate in &books.rates {
            named.entry(&rate.name).or_default().insert(rate.from, &rate.rate);
        }
        Self(named)
    }

    fn on(&self, day: Date, rate: &'b RateOf) -> Option<RateText<'b>> {
        match rate {
            RateOf::Fixed(text) => Some((text, "0%")),
            RateOf::Posted(name, spread) => {
                let (_, text) = self.0.get(name.as_str())?.range(..=day).next_back()?;
                Some((text, spread))
            }
        }
    }
}

fn value((rate, spread): RateText<'_>) -> Option<Fraction> {
    Some(Fraction::percent(rate)?.plus(&Fraction::percent(spread)?))
}

/// A settlement of interest as it should have been.
struct Settlement {
    /// The day at whose end it is settled; the closing day, if the account is closed.
    settled_on: Date,
    /// The day it joins the balance, or would.
    paid_on: Date,
    interest_minor: i128,
    tax_minor: i128,
}

pub(crate) fn audit(books: &Books, expected: &mut Expected, report: &mut Report) {
    let rates = Rates::new(books);
    let mut entries: HashMap<&str, Vec<&Entry>> = HashMap::new();
    for entry in &books.entries {
        if let Some(account) = entry.account.as_deref() {
            entries.entry(account).or_default().push(entry);
        }
    }
    for account in &books.accounts {
        let Product::Deposit(deposit) = &account.product else { continue };
        if account.opened > books.closed_through {
            continue;
        }
        report.looked_at.deposits += 1;
        let of_account = entries.get(account.account.as_str()).map_or(&[][..], Vec::as_slice);
        let audited = Auditing { account, deposit, entries: of_account, through: books.closed_through };
        if audited.run(&rates, expected, report).is_none() {
            report.tell("deposit.rate", &account.account, "a rate is missing, or is no percentage");
        }
    }
}

struct Auditing<'a, 'b> {
    account: &'b Account,
    deposit: &'b Deposit,
    entries: &'a [&'b Entry],
    through: Date,
}

impl<'b> Auditing<'_, 'b> {
    /// None if a rate cannot be read.
    fn run(&self, rates: &Rates<'b>, expected: &mut Expected, report: &mut Report) -> Option<()> {
        let (settled, accrued_minor) = self.recompute(rates)?;
        report.looked_at.settlements += settled.len() as u64;
        let paid = self.paid(report, &settled);
        // What was settled or has accrued, less what was paid by the end of the last closed day, is owed.
        let earned = settled.iter().filter(|settlement| settlement.settled_on <= self.through);
        let earned: i128 = earned.map(|settlement| settlement.interest_minor).sum();
        let owed = earned + accrued_minor - paid;
        expected.add(&self.account.place, self.account.currency, &self.deposit.accrued, owed);
        Some(())
    }

    /// Movements by value date: what customers and the bank did, without its own interest and the tax of it. What another
    /// account's interest brings is a movement.
    fn movements(&self) -> BTreeMap<Date, i128> {
        let of_interest = self.entries.iter().filter(|entry| {
            matches!(entry.kind, Kind::Interest | Kind::Tax) && entry.code != self.account.principal
        });
        let own: HashSet<&str> = of_interest.map(|entry| entry.posting.as_str()).collect();
        let mut movements = BTreeMap::new();
        for entry in self.entries {
            let moved = entry.code == self.account.principal
                && !own.contains(entry.posting.as_str())
                && entry.booked_on <= self.through;
            if moved {
                let day = entry.value_on.max(self.account.opened);
                *movements.entry(day).or_default() += i128::from(entry.credit_minor);
            }
        }
        movements
    }

    /// Every settlement there should have been, also that of a closing on the next day, and what had accrued by the end of
    /// the last closed day since the one before, rounded.
    fn recompute(&self, rates: &Rates<'b>) -> Option<(Vec<Settlement>, i128)> {
        let terms = &self.deposit.terms;
        let mut movements = self.movements();
        let mut settled = Vec::new();
        let mut balance = 0_i128;
        let mut carry = Fraction::zero();
        let mut period = Period::begin(self.account.opened);
        let mut day = self.account.opened;
        let closing = self.account.closed.filter(|closed| *closed <= after(self.through));
        let end = closing.unwrap_or(after(self.through));
        let unit = if terms.whole_units { 10_i128.pow(self.account.currency.decimals().into()) } else { 1 };
        while day < end {
            balance += movements.remove(&day).unwrap_or(0);
            let bearing = balance.max(0) / unit * unit;
            period.add(self.account.opened, day, bearing, terms, rates)?;
            if settles(day, &terms.settles_in, terms.settles_on) {
                let settlement = self.settle(&period, &mut carry, day, after(day), rates)?;
                if terms.compounds {
                    let net = settlement.interest_minor - settlement.tax_minor;
                    *movements.entry(after(day)).or_default() += net;
                }
                settled.push(settlement);
                period = Period::begin(after(day));
            }
            day = after(day);
        }
        let mut accrued = 0;
        if closing.is_none_or(|closed| closed > self.through) {
            accrued = period.value(self.account.opened, self.through, terms, rates)?.plus(&carry).rounded();
        }
        if let Some(closed) = closing {
            settled.push(self.settle(&period, &mut carry, closed, closed, rates)?);
        }
        Some((settled, accrued))
    }

    fn settle(
        &self,
        period: &Period<'b>,
        carry: &mut Fraction,
        rate_of: Date,
        paid_on: Date,
        rates: &Rates<'b>,
    ) -> Option<Settlement> {
        let terms = &self.deposit.terms;
        let exact = period.value(self.account.opened, rate_of, terms, rates)?.plus(carry);
        let interest_minor = exact.rounded();
        let tax_minor = match &terms.tax {
            None => 0,
            Some(tax) => value(rates.on(rate_of, tax)?)?.scaled(interest_minor.max(0), 1).rounded(),
        };
        let left = exact.plus(&Fraction::new(-interest_minor, 1));
        *carry = match terms.remainder {
            Remainder::Carried => left.reduced(),
            Remainder::Dropped => Fraction::zero(),
        };
        Some(Settlement { settled_on: rate_of, paid_on, interest_minor, tax_minor })
    }

    /// Compares what was paid with what should have been; returns what was paid by the end of the last closed day.
    fn paid(&self, report: &mut Report, settled: &[Settlement]) -> i128 {
        // What is settled at the end of a day is paid on the next one.
        let last = after(self.through);
        let (mut interest, mut tax): (BTreeMap<Date, i128>, BTreeMap<Date, i128>) = Default::default();
        let mut by_closing = 0;
        let mut backdated = false;
        for entry in self.entries.iter().filter(|entry| entry.booked_on <= last) {
            let minor = i128::from(entry.credit_minor);
            if entry.kind == Kind::Interest && entry.code == self.deposit.accrued {
                *interest.entry(entry.value_on).or_default() -= minor;
                if entry.booked_on <= self.through {
                    by_closing -= minor;
                }
            } else if entry.kind == Kind::Tax && entry.code != self.account.principal {
                *tax.entry(entry.value_on).or_default() += minor;
            } else if entry.code == self.account.principal && entry.value_on < entry.booked_on {
                backdated = true;
            }
        }
        let at = &self.account.account;
        let sum = |paid: &BTreeMap<Date, i128>| paid.values().sum::<i128>();
        let due = |of: fn(&Settlement) -> i128| settled.iter().map(of).sum::<i128>();
        report.compare("deposit.interest", at, sum(&interest), due(|s| s.interest_minor));
        report.compare("deposit.tax", at, sum(&tax), due(|s| s.tax_minor));
        if !backdated {
            // An account that is closed the day after a settlement day is settled twice for one day.
            let mut due: BTreeMap<Date, i128> = BTreeMap::new();
            for settlement in settled {
                *due.entry(settlement.paid_on).or_default() += settlement.interest_minor;
            }
            for (day, due) in due {
                let paid = interest.get(&day).copied().unwrap_or(0);
                report.compare("deposit.settlement", format!("{at} on {day}"), paid, due);
            }
        }
        by_closing
    }
}

/// A period from one settlement to the next: minor units times days, by rate or, where the rate is not known yet, by tier.
struct Period<'b> {
    from: Date,
    by_rate: BTreeMap<RateText<'b>, i128>,
    by_tier: BTreeMap<usize, i128>,
}

impl<'b> Period<'b> {
    fn begin(from: Date) -> Self {
        Self { from, by_rate: BTreeMap::new(), by_tier: BTreeMap::new() }
    }

    fn add(
        &mut self,
        opened: Date,
        day: Date,
        bearing: i128,
        terms: &'b DepositTerms,
        rates: &Rates<'b>,
    ) -> Option<()> {
        // Counted from the period's first day: of 30/360 the days of two halves are not those of the whole.
        let counted = days(terms.days, self.from, after(day)) - days(terms.days, self.from, day);
        for (tier, share) in shares(terms, bearing) {
            let minor_days = share * i128::from(counted);
            let rate_of = if terms.fixing == Fixing::OpeningDay { opened } else { day };
            if terms.fixing == Fixing::SettlementDay {
                *self.by_tier.entry(tier).or_default() += minor_days;
            } else {
                let rate = rates.on(rate_of, &terms.tiers[tier].rate)?;
                *self.by_rate.entry(rate).or_default() += minor_days;
            }
        }
        Some(())
    }

    /// What it comes to if it is settled at the rates of a day.
    fn value(&self, opened: Date, on: Date, terms: &'b DepositTerms, rates: &Rates<'b>) -> Option<Fraction> {
        let year = year(terms.days);
        let mut sum = Fraction::zero();
        for (rate, minor_days) in &self.by_rate {
            sum = sum.plus(&value(*rate)?.scaled(*minor_days, year));
        }
        for (tier, minor_days) in &self.by_tier {
            let rate = rates.on(on.max(opened), &terms.tiers[*tier].rate)?;
            sum = sum.plus(&value(rate)?.scaled(*minor_days, year));
        }
        Some(sum)
    }
}

/// How much of a balance lies in which tier.
fn shares(terms: &DepositTerms, bearing: i128) -> Vec<(usize, i128)> {
    let begins = |tier: usize| i128::from(terms.tiers[tier].from_minor);
    let mut reached = (0..terms.tiers.len()).filter(|tier| begins(*tier) <= bearing);
    if terms.marginal {
        let ends = |tier: usize| if tier + 1 < terms.tiers.len() { begins(tier + 1) } else { i128::MAX };
        reached.map(|tier| (tier, bearing.min(ends(tier)) - begins(tier))).collect()
    } else {
        reached.next_back().map(|tier| (tier, bearing)).into_iter().collect()
    }
}
