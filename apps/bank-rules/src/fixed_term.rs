//! Fixed-term deposits, by the Regulations on Savings (State Council decree 107 of 1992) and the PBC's notice Yinfa (2005)
//! 129: the rate of the opening day holds for the term; what is withdrawn early earns the current rate of the day of
//! withdrawal, what stays keeps its rate; days after the term earn the current rate of the day of withdrawal.

use dujiang_types::Money;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::calendar::{add_months, months_and_days};
use crate::withdrawal::{Earned, Why, check_taken};
use crate::{DayCount, Rate, RuleError};

/// How the days of a term are counted. Yinfa (2005) 129 leaves the choice to the bank; either way a day earns the 360th
/// part of the yearly rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TermCount {
    /// Whole years and months earn their part of the yearly rate, odd days by the day.
    WholeMonths,
    /// All days of the calendar.
    ActualDays,
}

/// A fixed-term deposit, or what is left of one after withdrawals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedDeposit {
    /// What is deposited.
    pub principal: Money,
    /// The first day that earns.
    pub opened: Date,
    /// The term.
    pub months: u16,
    /// The yearly rate agreed on when it was opened.
    pub rate: Rate,
    /// How days are counted.
    pub count: TermCount,
}

impl FixedDeposit {
    /// The day the term ends, which does not earn the agreed rate any more.
    pub fn matures(&self) -> Result<Date, RuleError> {
        add_months(self.opened, i32::from(self.months))
    }

    /// What withdrawing `minor` on a day earns; `current` is the rate for current deposits posted on that day.
    pub fn withdraw(&self, minor: i64, on: Date, current: Rate) -> Result<Earned, RuleError> {
        check_taken(minor, self.principal.minor)?;
        if on < self.opened {
            return Err(RuleError::Backwards { from: self.opened, to: on });
        }
        let matures = self.matures()?;
        let mut earned = Earned::default();
        if on < matures {
            earned.add_days(Why::Early, minor, current, (self.opened, on))?;
        } else {
            let days = self.count.days(self.opened, matures)?;
            earned.add(Why::Agreed, minor, self.rate, (self.opened, matures), days)?;
            earned.add_days(Why::Overdue, minor, current, (matures, on))?;
        }
        Ok(earned)
    }

    /// The deposit that follows at maturity where that was agreed: principal and net interest, for the same term, at the
    /// rate of the day.
    pub fn renew(&self, net_interest: Money, rate: Rate) -> Result<Self, RuleError> {
        let principal = self.principal.checked_add(net_interest)?;
        Ok(Self { principal, opened: self.matures()?, rate, ..self.clone() })
    }
}

impl TermCount {
    fn days(self, from: Date, to: Date) -> Result<i32, RuleError> {
        Ok(match self {
            Self::ActualDays => DayCount::Act360.days(from, to),
            Self::WholeMonths => {
                let (months, odd_days) = months_and_days(from, to)?;
                months * 30 + odd_days
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dujiang_types::Currency;
    use jiff::civil::date;

    fn deposit(count: TermCount) -> FixedDeposit {
        FixedDeposit {
            principal: Money::new(10_000_000, Currency::CNY),
            opened: date(2024, 2, 29),
            months: 12,
            rate: "1.5%".parse().unwrap(),
            count,
        }
    }

    #[test]
    fn a_term_earns_its_rate_early_and_late_days_the_current_one() {
        let current = "0.2%".parse().unwrap();
        let whole = deposit(TermCount::WholeMonths);
        assert_eq!(whole.matures(), Ok(date(2025, 2, 28)));
        // (day, fen of interest): a year is 1500 yuan; a day at the current rate 10,000,000 · 0.002 / 360 = 55.5 fen.
        let cases = [
            (date(2024, 2, 29), 0),
            (date(2024, 3, 1), 56),
            (date(2025, 2, 27), 20_222),
            (date(2025, 2, 28), 150_000),
            (date(2025, 3, 30), 151_667),
        ];
        for (on, fen) in cases {
            let earned = whole.withdraw(10_000_000, on, current).unwrap();
            assert_eq!(earned.interest_minor(), Ok(fen), "{on}");
        }
        // 365 actual days of 360.
        let actual = deposit(TermCount::ActualDays).withdraw(10_000_000, date(2025, 2, 28), current).unwrap();
        assert_eq!(actual.interest_minor(), Ok(152_083));
    }

    #[test]
    fn a_part_withdrawn_early_costs_the_rest_nothing() {
        let whole = deposit(TermCount::WholeMonths);
        let current = "0.2%".parse().unwrap();
        let early = whole.withdraw(4_000_000, date(2024, 8, 29), current).unwrap();
        assert_eq!((early.parts[0].why, early.parts[0].days), (Why::Early, 182));
        assert_eq!(early.interest_minor(), Ok(4044));
        let rest = FixedDeposit { principal: Money::new(6_000_000, Currency::CNY), ..whole.clone() };
        let at_term = rest.withdraw(6_000_000, date(2025, 2, 28), current).unwrap();
        assert_eq!(at_term.interest_minor(), Ok(90_000));
        assert!(rest.withdraw(6_000_001, date(2025, 2, 28), current).is_err());
        assert!(rest.withdraw(0, date(2025, 2, 28), current).is_err());
        assert!(rest.withdraw(1, date(2024, 2, 28), current).is_err());
    }

    #[test]
    fn a_renewal_begins_where_the_term_ended() {
        let renewed = deposit(TermCount::WholeMonths)
            .renew(Money::new(150_000, Currency::CNY), "1.1%".parse().unwrap())
            .unwrap();
        assert_eq!((renewed.opened, renewed.principal.minor), (date(2025, 2, 28), 10_150_000));
        assert_eq!(renewed.matures(), Ok(date(2026, 2, 28)));
    }
}
