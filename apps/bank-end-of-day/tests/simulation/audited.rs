//! The world's books as the auditor takes them: agreements in words of his own.

use dujiang_bank_auditor::books::{
    Account, Books, ClaimedBalance, ClaimedLine, Closing, DayCount, Deposit, DepositTerms, Entry, Fixing,
    Loan, Method, Place, PostedRate, Product, RateOf, Remainder, Tier,
};
use dujiang_bank_rules::loan::schedule::{Method as RepaidBy, PeriodCount};
use dujiang_bank_rules::terms::{self, Bearing};
use dujiang_bank_rules::{InterestTerms, RateRule, RateSource, Settlement};
use dujiang_types::Currency;

use crate::world::{self, World, credit};

pub(crate) fn books(world: &World) -> Books {
    let closed_through = world.closings.last().unwrap().0;
    let mut accounts = Vec::new();
    let mut balances = Vec::new();
    for deposit in world.deposits.values() {
        accounts.push(account(world, deposit));
        let balance_minor = world.balance_now(&deposit.end);
        balances.push(ClaimedBalance { account: deposit.end.account.to_string(), balance_minor });
    }
    for loan in world.loans.values() {
        accounts.push(lent(world, loan));
        let balance_minor = world.balance_now(&loan.row.end);
        balances.push(ClaimedBalance { account: loan.row.end.account.to_string(), balance_minor });
    }
    let entries = world.entries.iter().map(|booked| Entry {
        number: booked.number,
        posting: booked.posting.clone(),
        kind: booked.kind,
        account: booked.line.account.map(|account| account.to_string()),
        place: place(&booked.line.entry.place),
        code: booked.line.entry.code.to_string(),
        currency: booked.line.entry.amount.currency,
        credit_minor: credit(&booked.line.entry),
        booked_on: booked.booked_on,
        value_on: booked.value_on,
    });
    let trial = world.trial().lines().map(|(at, currency, code, turnover)| ClaimedLine {
        place: place(at),
        currency,
        code: code.to_string(),
        debits_minor: turnover.debits,
        credits_minor: turnover.credits,
    });
    let closings =
        world.closings.iter().map(|(day, last_entry)| Closing { day: *day, last_entry: *last_entry });
    Books {
        closed_through,
        accounts,
        entries: entries.collect(),
        rates: rates(world),
        closings: closings.collect(),
        balances,
        trial: trial.collect(),
    }
}

fn place(place: &dujiang_bank_general_ledger::Place) -> Place {
    Place { member: place.member.to_string(), branch: place.branch.to_string() }
}

fn rates(world: &World) -> Vec<PostedRate> {
    let names = ["current", "corporate", "tax"];
    let each = |name: &'static str| {
        let values = world.posted.named(name).unwrap().iter();
        values.map(move |since| PostedRate {
            name: name.into(),
            from: since.from,
            rate: since.value.to_string(),
        })
    };
    names.into_iter().flat_map(each).collect()
}

fn account(world: &World, deposit: &world::Deposit) -> Account {
    let accrued = if deposit.product < 2 { "223101" } else { "223102" };
    Account {
        account: deposit.end.account.to_string(),
        place: place(&deposit.end.place),
        currency: Currency::CNY,
        opened: deposit.opened,
        closed: deposit.closed,
        // Customers here may overdraw: what they do does not depend on what they have. What is collected does.
        limit_minor: if world.is_collected_from(&deposit.end) { 0 } else { i64::MIN },
        principal: world.principal(&deposit.end).to_string(),
        product: Product::Deposit(Deposit {
            accrued: accrued.into(),
            terms: agreed(&world.products[deposit.product]),
        }),
    }
}

fn agreed(terms: &InterestTerms) -> DepositTerms {
    let tiers = match &terms.rate {
        RateRule::Single(rate) => vec![Tier { from_minor: 0, rate: rate_of(rate) }],
        RateRule::ByTerm(tiers) => vec![Tier { from_minor: 0, rate: rate_of(&tiers[0].rate) }],
        RateRule::WholeBalance(tiers) | RateRule::Marginal(tiers) => {
            tiers.iter().map(|tier| Tier { from_minor: tier.from_minor, rate: rate_of(&tier.rate) }).collect()
        }
    };
    let (settles_in, settles_on) = match terms.settlement {
        Settlement::Monthly { day } => ((1..=12).collect(), day),
        Settlement::Quarterly { day } => (vec![3, 6, 9, 12], day),
        Settlement::Yearly { month, day } => (vec![month], day),
        Settlement::AtEnd => (Vec::new(), 1),
    };
    DepositTerms {
        tiers,
        marginal: matches!(terms.rate, RateRule::Marginal(_)),
        fixing: match terms.fixing {
            terms::Fixing::EachDay => Fixing::EachDay,
            terms::Fixing::SettlementDay => Fixing::SettlementDay,
            terms::Fixing::OpeningDay => Fixing::OpeningDay,
        },
        days: days(terms.day_count),
        settles_in,
        settles_on,
        compounds: terms.compounds,
        whole_units: terms.bearing == Bearing::MajorUnits,
        remainder: match terms.remainder {
            terms::Remainder::Carried => Remainder::Carried,
            terms::Remainder::Dropped => Remainder::Dropped,
        },
        tax: terms.tax.as_ref().map(rate_of),
    }
}

fn rate_of(source: &RateSource) -> RateOf {
    match source {
        RateSource::Fixed(rate) => RateOf::Fixed(rate.to_string()),
        RateSource::Posted { name, spread } => RateOf::Posted(name.clone(), spread.to_string()),
    }
}

fn days(count: dujiang_bank_rules::DayCount) -> DayCount {
    match count {
        dujiang_bank_rules::DayCount::Act360 => DayCount::Act360,
        dujiang_bank_rules::DayCount::Act365F => DayCount::Act365F,
        dujiang_bank_rules::DayCount::Thirty360 => DayCount::Thirty360,
        dujiang_bank_rules::DayCount::ThirtyE360 => DayCount::ThirtyE360,
    }
}

fn lent(world: &World, loan: &world::Loan) -> Account {
    let agreement = &loan.row.agreement;
    let product = Loan {
        principal_minor: loan.minor,
        rate: agreement.terms.rate.to_string(),
        method: match agreement.terms.method {
            RepaidBy::EqualInstalments => Method::EqualInstalments,
            RepaidBy::EqualPrincipal => Method::EqualPrincipal,
            RepaidBy::Bullet => Method::Bullet,
        },
        days: match agreement.terms.count {
            PeriodCount::WholeMonths => DayCount::Months,
            PeriodCount::Days(count) => days(count),
        },
        every_months: agreement.terms.every_months,
        periods: agreement.terms.periods,
        penalty_factor: String::from(agreement.penalty.factor),
        penalty_compounds: agreement.penalty.compounds,
        penalty_days: days(agreement.penalty.day_count),
        grace_days: agreement.penalty.grace_days,
        accrued: "113201".into(),
        penalty_accrued: "113202".into(),
        allowance: "130401".into(),
        suspended_after_days: 90,
        class_after_days: [0, 90, 270, 360],
        set_aside: ["1%", "2%", "25%", "50%", "100%"].map(Into::into),
    };
    Account {
        account: loan.row.end.account.to_string(),
        place: place(&loan.row.end.place),
        currency: Currency::CNY,
        opened: loan.drawn,
        closed: None,
        limit_minor: i64::MIN,
        principal: world.principal(&loan.row.end).to_string(),
        product: Product::Loan(product),
    }
}
