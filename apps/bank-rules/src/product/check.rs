//! Whether a product makes sense: everything that is wrong with it, at once.

use dujiang_types::Currency;
use serde::{Deserialize, Serialize};

use super::fee::{Amount, Fee};
use super::limit::Limits;
use super::{Kind, Product, TermLoan};
use crate::loan::allocation::Order;
use crate::loan::overdue::PenaltyTerms;
use crate::loan::schedule::PERIODS_MAX;
use crate::terms::{BalanceTier, Fixing, TermTier};
use crate::{Factor, InterestTerms, Rate, RateRule, RateSource, Settlement};

/// Most tiers of a rate: more cannot be explained at a counter.
const TIERS_MAX: usize = 16;
/// Longest name.
const NAME_CHARS_MAX: usize = 100;
/// Longest term in months: fifty years.
const MONTHS_MAX: u16 = PERIODS_MAX;
/// Penalty factors the PBC allows for lateness (Yinfa (2003) 251).
const PENALTY_CHINA: (Factor, Factor) = (Factor::ten_thousandths(13_000), Factor::ten_thousandths(15_000));

/// Something that is wrong with a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Where: a path within the document.
    pub field: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Collects faults below a path.
#[derive(Debug, Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn unless(&mut self, fine: bool, field: impl Into<String>, what: &str, remedy: &str) {
        if !fine {
            self.0.push(Fault { field: field.into(), what: what.to_owned(), remedy: remedy.to_owned() });
        }
    }
}

impl Product {
    /// Everything that is wrong with it; nothing if it may be launched.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Faults::default();
        let named = !self.name.trim().is_empty() && self.name.chars().count() <= NAME_CHARS_MAX;
        faults.unless(named, "name", "it has no name, or a long one", "give it 1 to 100 characters");
        match &self.kind {
            Kind::Current { interest } => check_interest(&mut faults, "kind.interest", interest),
            Kind::FixedTerm { months, rates, current_rate, tax, .. } => {
                check_months(&mut faults, months, rates);
                check_source(&mut faults, "kind.current_rate", current_rate);
                check_tax(&mut faults, "kind.tax", tax.as_ref());
            }
            Kind::NoticeDeposit { notice, rate, current_rate } => {
                let days = matches!(notice.notice_days, 1 | 7);
                faults.unless(days, "kind.notice.notice_days", "notice is of 1 or 7 days", "write 1 or 7");
                let opening = notice.opening_min_minor > 0;
                faults.unless(opening, "kind.notice.opening_min_minor", "it is not positive", "write more");
                let withdrawal = (1..=notice.opening_min_minor.max(1)).contains(&notice.withdrawal_min_minor);
                faults.unless(
                    withdrawal,
                    "kind.notice.withdrawal_min_minor",
                    "it is not positive, or more than the smallest deposit, which could never be withdrawn",
                    "write an amount from 1 to opening_min_minor",
                );
                check_source(&mut faults, "kind.rate", rate);
                check_source(&mut faults, "kind.current_rate", current_rate);
            }
            Kind::TermLoan(loan) => check_loan(&mut faults, loan, self.currency),
            Kind::RevolvingCredit { interest, credit_max_minor, minimum_payment, penalty, order } => {
                check_interest(&mut faults, "kind.interest", interest);
                faults.unless(
                    *credit_max_minor > 0,
                    "kind.credit_max_minor",
                    "it is not positive",
                    "write the highest limit",
                );
                check_amount(&mut faults, "kind.minimum_payment", *minimum_payment);
                check_penalty(&mut faults, penalty, self.currency);
                check_order(&mut faults, order);
            }
        }
        check_fees(&mut faults, &self.fees);
        check_limits(&mut faults, &self.limits);
        faults.0
    }
}

fn check_interest(faults: &mut Faults, at: &str, terms: &InterestTerms) {
    match &terms.rate {
        RateRule::Single(source) => check_source(faults, &format!("{at}.rate.single"), source),
        RateRule::WholeBalance(tiers) => check_tiers(faults, &format!("{at}.rate.whole_balance"), tiers),
        RateRule::Marginal(tiers) => check_tiers(faults, &format!("{at}.rate.marginal"), tiers),
        RateRule::ByTerm(_) => faults.unless(
            false,
            format!("{at}.rate.by_term"),
            "the account has no term",
            "use single, whole_balance or marginal",
        ),
    }
    let (day, month) = match terms.settlement {
        Settlement::Monthly { day } | Settlement::Quarterly { day } => (day, 1),
        Settlement::Yearly { month, day } => (day, month),
        Settlement::AtEnd => (1, 1),
    };
    let exists = (1..=31).contains(&day) && (1..=12).contains(&month);
    faults.unless(exists, format!("{at}.settlement"), "there is no such day", "day 1 to 31, month 1 to 12");
    faults.unless(
        terms.fixing != Fixing::OpeningDay || terms.settlement == Settlement::AtEnd,
        format!("{at}.fixing"),
        "an account without a term would keep the opening day's rate for ever",
        "use each_day or settlement_day",
    );
    check_tax(faults, &format!("{at}.tax"), terms.tax.as_ref());
}

fn check_source(faults: &mut Faults, at: &str, source: &RateSource) {
    if let RateSource::Posted { name, .. } = source {
        faults.unless(!name.is_empty(), format!("{at}.posted.name"), "it is empty", "name a posted rate");
    }
}

fn check_tax(faults: &mut Faults, at: &str, tax: Option<&RateSource>) {
    if let Some(RateSource::Fixed(rate)) = tax {
        faults.unless(is_share(*rate), at, "it is not a share", "write a percentage from 0% to 100%");
    }
    if let Some(source) = tax {
        check_source(faults, at, source);
    }
}

fn is_share(rate: Rate) -> bool {
    (Rate::ZERO..=Rate::percent(100)).contains(&rate)
}

fn check_tiers(faults: &mut Faults, at: &str, tiers: &[BalanceTier]) {
    let count = (1..=TIERS_MAX).contains(&tiers.len());
    faults.unless(count, at, "it has no tiers, or too many", "give it 1 to 16 tiers");
    let zero = tiers.first().is_none_or(|tier| tier.from_minor == 0);
    faults.unless(zero, format!("{at}[0].from_minor"), "balances below it have no rate", "begin with 0");
    for (index, pair) in tiers.windows(2).enumerate() {
        let rises = pair[0].from_minor < pair[1].from_minor;
        let field = format!("{at}[{}].from_minor", index + 1);
        faults.unless(rises, field, "it is not above the tier before", "let tiers rise");
    }
    for (index, tier) in tiers.iter().enumerate() {
        check_source(faults, &format!("{at}[{index}].rate"), &tier.rate);
    }
}

fn check_months(faults: &mut Faults, months: &[u16], rates: &[TermTier]) {
    faults.unless(!months.is_empty(), "kind.months", "no term is on offer", "name one or more");
    let count = (1..=TIERS_MAX).contains(&rates.len());
    faults.unless(count, "kind.rates", "it has no tiers, or too many", "give it 1 to 16 tiers");
    for (index, pair) in rates.windows(2).enumerate() {
        let rises = pair[0].from_months < pair[1].from_months;
        let field = format!("kind.rates[{}].from_months", index + 1);
        faults.unless(rises, field, "it is not above the tier before", "let tiers rise");
    }
    for (index, tier) in rates.iter().enumerate() {
        check_source(faults, &format!("kind.rates[{index}].rate"), &tier.rate);
    }
    for (index, term) in months.iter().enumerate() {
        let field = format!("kind.months[{index}]");
        let possible = (1..=MONTHS_MAX).contains(term);
        faults.unless(possible, field.as_str(), "it is no possible term", "write 1 to 600 months");
        let covered = rates.iter().any(|tier| tier.from_months <= *term);
        faults.unless(covered, field, "no tier of rates covers it", "add a tier from that term or below");
    }
}

fn check_loan(faults: &mut Faults, loan: &TermLoan, currency: Currency) {
    faults.unless(!loan.methods.is_empty(), "kind.methods", "none is on offer", "name one or more");
    check_source(faults, "kind.rate", &loan.rate);
    let every = loan.every_months > 0;
    faults.unless(every, "kind.every_months", "there are no periods of no months", "write 1, 3 or 12");
    let terms = loan.months_min > 0 && loan.months_min <= loan.months_max && loan.months_max <= MONTHS_MAX;
    faults.unless(
        terms,
        "kind.months_max",
        "the terms do not rise from 1 to 600",
        "months_min to months_max",
    );
    let whole = |months: u16| !every || months.is_multiple_of(loan.every_months);
    for (field, months) in [("kind.months_min", loan.months_min), ("kind.months_max", loan.months_max)] {
        faults.unless(
            whole(months),
            field,
            "it is not a number of whole periods",
            "use multiples of every_months",
        );
    }
    let principal = loan.principal_min_minor > 0 && loan.principal_min_minor <= loan.principal_max_minor;
    faults.unless(
        principal,
        "kind.principal_min_minor",
        "the smallest loan is nothing, or more than the largest",
        "write an amount from 1 to principal_max_minor",
    );
    if let Some(early) = &loan.early {
        faults.unless(is_share(early.fee), "kind.early.fee", "it is not a share", "write 0% to 100%");
        faults.unless(early.min_minor >= 0, "kind.early.min_minor", "it is negative", "write 0 or more");
    }
    check_penalty(faults, &loan.penalty, currency);
    check_order(faults, &loan.order);
}

fn check_penalty(faults: &mut Faults, penalty: &PenaltyTerms, currency: Currency) {
    let (low, high) = PENALTY_CHINA;
    let lawful = currency != Currency::CNY || (low..=high).contains(&penalty.factor);
    faults.unless(
        lawful,
        "kind.penalty.factor",
        "penalty for lateness in renminbi is 1.3 to 1.5 times the rate (Yinfa (2003) 251)",
        "write a factor from 1.3 to 1.5",
    );
}

fn check_order(faults: &mut Faults, order: &Order) {
    faults.unless(order.is_complete(), "kind.order.kinds", "a kind is missing or twice", "name all six once");
}

fn check_amount(faults: &mut Faults, at: &str, amount: Amount) {
    match amount {
        Amount::Flat { minor } => {
            faults.unless(minor >= 0, format!("{at}.flat.minor"), "it is negative", "write 0 or more");
        }
        Amount::Share { rate, min_minor, max_minor } => {
            let at = format!("{at}.share");
            faults.unless(is_share(rate), format!("{at}.rate"), "it is not a share", "write 0% to 100%");
            faults.unless(min_minor >= 0, format!("{at}.min_minor"), "it is negative", "write 0 or more");
            let bounds = max_minor.is_none_or(|max| max >= min_minor);
            faults.unless(bounds, format!("{at}.max_minor"), "it is below min_minor", "write at least that");
        }
    }
}

fn check_fees(faults: &mut Faults, fees: &[Fee]) {
    for (index, fee) in fees.iter().enumerate() {
        let again = fees[..index].iter().any(|other| other.event == fee.event);
        let field = format!("fees[{index}].event");
        faults.unless(!again, field, "there is a fee for it already", "leave one of them");
        check_amount(faults, &format!("fees[{index}].amount"), fee.amount);
    }
}

fn check_limits(faults: &mut Faults, limits: &Limits) {
    let rises = |low: Option<i64>, high: Option<i64>| low.zip(high).is_none_or(|(low, high)| low <= high);
    let balance = rises(limits.balance_min_minor, limits.balance_max_minor);
    let field = "limits.balance_max_minor";
    faults.unless(balance, field, "it is below the smallest balance", "write at least balance_min_minor");
    let movements = rises(limits.transaction_max_minor, limits.day_max_minor);
    faults.unless(
        movements,
        "limits.day_max_minor",
        "it is below what one movement may be",
        "write at least transaction_max_minor",
    );
    for (field, bound) in [
        ("limits.transaction_max_minor", limits.transaction_max_minor),
        ("limits.day_max_minor", limits.day_max_minor),
    ] {
        faults.unless(bound.is_none_or(|bound| bound >= 0), field, "it is negative", "write 0 or more");
    }
}
