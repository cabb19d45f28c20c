//! What happens in a unit: accounts, rates, loans, and what customers book on each day, before the cut-off and after.

use dujiang_bank_end_of_day::journal::End;
use dujiang_bank_end_of_day::loans::LoanAgreement;
use dujiang_bank_general_ledger::{Place, ProductClass};
use dujiang_bank_parties::{BranchId, MemberId};
use dujiang_bank_rules::loan::allocation::{Kind, Order, Sequence};
use dujiang_bank_rules::loan::overdue::PenaltyTerms;
use dujiang_bank_rules::loan::schedule::{LoanTerms, Method, PeriodCount};
use dujiang_bank_rules::terms::{BalanceTier, Bearing, Fixing, Remainder, TermTier};
use dujiang_bank_rules::{DayCount, InterestTerms, PostedRates, RateRule, RateSource, Settlement};
use dujiang_routing::AccountNumber;
use dujiang_types::Slot;
use jiff::ToSpan;
use jiff::civil::{Date, date};

use crate::Random;

/// Classes of the products below, by index.
const CLASSES: [&str; 4] = ["personal-current", "company-current", "personal-term", "notice"];
/// Shortest run in days: a settlement day is in it, and most loans that nobody repays are late for more than ninety.
const DAYS_MIN: u64 = 125;

pub(crate) struct Scenario {
    pub(crate) begins: Date,
    pub(crate) posted: PostedRates,
    pub(crate) products: Vec<InterestTerms>,
    pub(crate) days: Vec<Day>,
}

/// A business day: what is booked on it, and what on the next one while its end is under way.
pub(crate) struct Day {
    pub(crate) before_cut_off: Vec<Booking>,
    pub(crate) after_cut_off: Vec<Booking>,
}

#[derive(Clone)]
pub(crate) enum Booking {
    /// An account of a product; interest is paid to the other account, if there is one.
    Open { end: End, product: usize, paid_to: Option<End> },
    /// Cash in, or out if below zero; it counts so many days later or earlier than it is booked.
    Cash { account: AccountNumber, minor: i64, value_days: i32 },
    /// The account is closed, and what is on it paid out.
    Close { account: AccountNumber },
    /// From one deposit to another.
    Transfer { from: AccountNumber, to: AccountNumber, minor: i64 },
    /// A loan that is paid out into a deposit and collected from it.
    Lend { end: End, agreement: LoanAgreement, minor: i64, into: AccountNumber },
}

fn end(serial: u64, branch: u64, class: &str) -> End {
    // Slots in no order, so that numbers are not in the order of opening.
    let slot = u16::try_from(serial * 7919 % 16_384).unwrap();
    End {
        account: AccountNumber::new(Slot::new(slot).unwrap(), serial).unwrap(),
        place: Place {
            member: MemberId::new("qingshen").unwrap(),
            branch: BranchId::new(branch.to_string()).unwrap(),
        },
        product: ProductClass::new(class),
    }
}

fn posted(name: &str, spread: &str) -> RateSource {
    RateSource::Posted { name: name.into(), spread: spread.parse().unwrap() }
}

/// Four kinds of deposits, so that every way of fixing, tiers, settlement and rounding is there.
fn products(random: &mut Random) -> Vec<InterestTerms> {
    let remainder = if random.chance(50) { Remainder::Carried } else { Remainder::Dropped };
    let personal = InterestTerms {
        rate: RateRule::Single(posted("current", "0%")),
        fixing: Fixing::SettlementDay,
        day_count: DayCount::Act360,
        settlement: Settlement::CHINA_QUARTERLY,
        compounds: true,
        bearing: Bearing::MajorUnits,
        remainder,
        tax: None,
    };
    let tier = |from_minor, spread| BalanceTier { from_minor, rate: posted("corporate", spread) };
    let tiers = vec![tier(0, "0%"), tier(i64::from(u32::MAX) / 100, "0.13%")];
    let corporate = InterestTerms {
        rate: RateRule::Marginal(tiers.clone()),
        fixing: Fixing::EachDay,
        bearing: Bearing::MinorUnits,
        remainder: Remainder::Carried,
        ..personal.clone()
    };
    let monthly = InterestTerms {
        rate: RateRule::WholeBalance(tiers),
        day_count: DayCount::Act365F,
        settlement: Settlement::Monthly { day: 31 },
        compounds: false,
        tax: Some(posted("tax", "0%")),
        ..corporate.clone()
    };
    let term = InterestTerms {
        rate: RateRule::ByTerm(vec![TermTier { from_months: 3, rate: posted("corporate", "1%") }]),
        fixing: Fixing::OpeningDay,
        day_count: DayCount::ThirtyE360,
        settlement: Settlement::AtEnd,
        ..personal.clone()
    };
    vec![personal, corporate, monthly, term]
}

fn rates(random: &mut Random, begins: Date, days: i32) -> PostedRates {
    let mut posted = PostedRates::default();
    for (name, low, high) in [("current", 5, 72), ("corporate", -40, 300), ("tax", 500, 2000)] {
        let mut day = begins;
        while day < begins + days.days() {
            let hundredths = low + i64::try_from(random.below(u64::try_from(high - low).unwrap())).unwrap();
            let sign = if hundredths < 0 { "-" } else { "" };
            let text = format!("{sign}{}.{:02}%", hundredths.abs() / 100, hundredths.abs() % 100);
            posted.announce(name, day, text.parse().unwrap()).unwrap();
            day += i32::try_from(7 + random.below(50)).unwrap().days();
        }
    }
    posted
}

fn agreement(random: &mut Random) -> LoanAgreement {
    let methods = [Method::EqualInstalments, Method::EqualPrincipal, Method::Bullet];
    let counts = [PeriodCount::WholeMonths, PeriodCount::Days(DayCount::Act360)];
    LoanAgreement {
        terms: LoanTerms {
            method: methods[random.index(3)],
            rate: ["4.35%", "7.8%", "12%"][random.index(3)].parse().unwrap(),
            count: counts[random.index(2)],
            every_months: 1,
            periods: u16::try_from(1 + random.below(6)).unwrap(),
        },
        penalty: PenaltyTerms {
            factor: ["1.3", "1.5"][random.index(2)].parse().unwrap(),
            compounds: random.chance(50),
            day_count: DayCount::Act360,
            grace_days: [0, 3, 10][random.index(3)],
        },
        order: Order {
            kinds: Kind::ALL.to_vec(),
            sequence: if random.chance(50) { Sequence::OldestFirst } else { Sequence::KindFirst },
        },
    }
}

impl Scenario {
    /// `shared`: loans may be collected from the same account, so that who comes first matters.
    pub(crate) fn new(seed: u64, shared: bool) -> Self {
        let mut random = Random(seed);
        let begins = date(2026, 1, 1) + i32::try_from(random.below(700)).unwrap().days();
        let count = DAYS_MIN + random.below(60);
        let products = products(&mut random);
        let posted = rates(&mut random, begins, i32::try_from(count).unwrap() + 5);
        let mut serial = 0;
        let mut next = |random: &mut Random, class: &str| {
            serial += 1;
            end(serial, 1 + random.below(2), class)
        };
        // Customers who move their money, and accounts that loans are collected from.
        let (mut movers, mut opened) = (Vec::new(), Vec::new());
        for n in 0..8 {
            let product = n % 4;
            let end = next(&mut random, CLASSES[product]);
            let paid_to = (product == 2).then(|| movers.first().cloned()).flatten();
            movers.push(end.clone());
            opened.push(Booking::Open { end, product, paid_to });
        }
        let mut loans = Vec::new();
        let mut sources: Vec<End> = Vec::new();
        for n in 0..4 {
            let source = if let Some(source) = sources.first().filter(|_| shared && n % 2 == 1) {
                source.clone()
            } else {
                let end = next(&mut random, CLASSES[0]);
                opened.push(Booking::Open { end: end.clone(), product: 0, paid_to: None });
                end
            };
            sources.push(source.clone());
            let class = ["personal-loan", "farmer-loan", "company-loan"][random.index(3)];
            let minor = 100_000 + random.minor(5_000_000);
            let lend = Booking::Lend {
                end: next(&mut random, class),
                agreement: agreement(&mut random),
                minor,
                into: source.account,
            };
            // The money is spent: what is collected later has to be brought. One borrower spends all, and brings nothing.
            let spent = if n == 2 { minor } else { random.minor(u64::try_from(minor).unwrap()) };
            loans.push([lend, Booking::Cash { account: source.account, minor: -spent, value_days: 0 }]);
        }
        sources.remove(2);
        let mut days: Vec<Day> = (0..count).map(|_| Day::random(&mut random, &movers, &sources)).collect();
        for (n, booking) in opened.into_iter().enumerate() {
            // Most are there from the beginning; some open later, also after a cut-off.
            let late = (4..8).contains(&n) && n % 4 != 2 && random.chance(50);
            let day = if late { random.index(20) } else { 0 };
            let place = &mut days[day];
            let bookings = if late { &mut place.after_cut_off } else { &mut place.before_cut_off };
            bookings.insert(0, booking);
        }
        // Some are closed in the end, not the one that another's interest is paid to.
        for account in [&movers[1], &movers[4], &movers[6]].map(|end| end.account) {
            let day = random.index(days.len());
            let (day, late) = (&mut days[day], random.chance(50));
            let bookings = if late { &mut day.after_cut_off } else { &mut day.before_cut_off };
            bookings.push(Booking::Close { account });
        }
        for loan in loans {
            let day = 1 + random.index(30);
            days[day].before_cut_off.extend(loan);
        }
        Self { begins, posted, products, days }
    }
}

impl Day {
    fn random(random: &mut Random, movers: &[End], sources: &[End]) -> Self {
        let mut before_cut_off: Vec<_> =
            (0..random.below(4)).map(|_| Booking::random(random, movers)).collect();
        let after_cut_off = (0..random.below(3)).map(|_| Booking::random(random, movers)).collect();
        for source in sources {
            if random.chance(4) {
                let minor = random.minor(1_500_000);
                before_cut_off.push(Booking::Cash { account: source.account, minor, value_days: 0 });
            }
        }
        Self { before_cut_off, after_cut_off }
    }
}

impl Booking {
    fn random(random: &mut Random, movers: &[End]) -> Self {
        let account = movers[random.index(movers.len())].account;
        match random.below(10) {
            0..5 => Self::Cash { account, minor: random.minor(90_000_000), value_days: 0 },
            5..7 => Self::Cash { account, minor: -random.minor(50_000_000), value_days: 0 },
            7 => {
                let value_days = -i32::try_from(1 + random.below(60)).unwrap();
                let minor = random.minor(60_000_000);
                Self::Cash { account, minor: if random.chance(40) { -minor } else { minor }, value_days }
            }
            8 => Self::Cash { account, minor: random.minor(60_000_000), value_days: 2 },
            _ => {
                let to = movers[random.index(movers.len())].account;
                Self::Transfer { from: account, to, minor: random.minor(9_000_000) }
            }
        }
    }
}
