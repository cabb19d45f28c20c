//! Notice deposits, by the PBC's Measures for Notice Deposits (Yinfa (1999) 3): no term, but a notice of one or seven days
//! before money is withdrawn. The rate is that of the day of withdrawal for the time it was really kept (article 8); what
//! does not keep to the notice earns the current rate (article 9); a notice that is not carried out costs the interest
//! of its days.

use dujiang_types::Money;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::day_count::calendar_days;
use crate::withdrawal::{Earned, Why, check_taken};
use crate::{Rate, RuleError};

/// Terms of a notice deposit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticeTerms {
    /// Days from notice to withdrawal: 1 or 7.
    pub notice_days: u16,
    /// The smallest deposit: 50,000 yuan of a person, 500,000 of a company (article 5).
    pub opening_min_minor: i64,
    /// The smallest withdrawal: 50,000 yuan of a person, 100,000 of a company (article 5).
    pub withdrawal_min_minor: i64,
}

/// A notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// The day it was given.
    pub given: Date,
    /// The day the money is to be withdrawn.
    pub withdraws: Date,
    /// How much.
    pub minor: i64,
}

/// A notice deposit, or what is left of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticeDeposit {
    /// What is deposited.
    pub principal: Money,
    /// The first day that earns.
    pub opened: Date,
    /// Notices that were cancelled or not carried out, or not wholly: amounts that lose the interest of the days from
    /// notice to withdrawal.
    pub lapsed: Vec<Notice>,
}

/// Rates of the day of withdrawal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoticeRates {
    /// For deposits with that notice.
    pub notice: Rate,
    /// For current deposits.
    pub current: Rate,
}

impl NoticeDeposit {
    /// Withdraws `minor`: what it earns, and the deposit that is left. A notice for more than is withdrawn lapses for the
    /// rest.
    pub fn withdraw(
        &self,
        terms: &NoticeTerms,
        minor: i64,
        on: Date,
        notice: Option<&Notice>,
        rates: NoticeRates,
    ) -> Result<(Earned, Self), RuleError> {
        check_taken(minor, self.principal.minor)?;
        if on < self.opened {
            return Err(RuleError::Backwards { from: self.opened, to: on });
        }
        let mut rest = self.clone();
        rest.principal.minor -= minor;
        let (agreed, why_not) = as_agreed(terms, self.opened, minor, on, notice);
        let mut earned = Earned::default();
        let mut silent = rest.take_lapsed(minor);
        rest.opening_lapse(notice, minor);
        // The part that kept to the notice first: it has the most to lose, and a notice that lapsed is about it.
        for (why, amount, rate) in
            [(Why::Agreed, agreed, rates.notice), (why_not, minor - agreed, rates.current)]
        {
            earn(&mut earned, why, amount, rate, (self.opened, on), &mut silent)?;
        }
        Ok((earned, rest))
    }

    /// Takes lapsed notices for that amount, the oldest first.
    fn take_lapsed(&mut self, minor: i64) -> Vec<Notice> {
        let mut taken = Vec::new();
        for notice in &mut self.lapsed {
            let part = notice.minor.min(minor);
            notice.minor -= part;
            taken.push(Notice { minor: part, ..*notice });
        }
        self.lapsed.retain(|notice| notice.minor > 0);
        taken.retain(|notice| notice.minor > 0);
        taken
    }

    /// What a notice named and nobody withdrew, as far as it is still there.
    fn opening_lapse(&mut self, notice: Option<&Notice>, minor: i64) {
        if let Some(notice) = notice {
            let left = (notice.minor - minor).min(self.principal.minor);
            if left > 0 {
                self.lapsed.push(Notice { minor: left, ..*notice });
            }
        }
    }
}

/// How much of a withdrawal keeps to the rules, and why the rest does not.
fn as_agreed(terms: &NoticeTerms, opened: Date, minor: i64, on: Date, notice: Option<&Notice>) -> (i64, Why) {
    let notice_days = i32::from(terms.notice_days);
    if calendar_days(opened, on) < notice_days {
        return (0, Why::HeldTooShort);
    }
    if minor < terms.withdrawal_min_minor {
        return (0, Why::BelowMinimum);
    }
    match notice {
        Some(notice) if calendar_days(notice.given, notice.withdraws) < notice_days => (0, Why::NoNotice),
        Some(notice) if notice.withdraws != on => (0, Why::OtherDay),
        Some(notice) => (minor.min(notice.minor.max(0)), Why::MoreThanNotified),
        None => (0, Why::NoNotice),
    }
}

/// Adds what an amount earned, less the days of lapsed notices for it.
fn earn(
    earned: &mut Earned,
    why: Why,
    minor: i64,
    rate: Rate,
    span: (Date, Date),
    silent: &mut [Notice],
) -> Result<(), RuleError> {
    earned.add_days(why, minor, rate, span)?;
    for notice in silent {
        let part = notice.minor.min(minor);
        notice.minor -= part;
        let days = (notice.given.max(span.0), notice.withdraws.min(span.1));
        if days.0 < days.1 {
            earned.add_days(Why::NoticeLapsed, -part, rate, days)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dujiang_types::Currency;
    use jiff::civil::date;

    const TERMS: NoticeTerms =
        NoticeTerms { notice_days: 7, opening_min_minor: 5_000_000, withdrawal_min_minor: 5_000_000 };

    fn rates() -> NoticeRates {
        NoticeRates { notice: "1.35%".parse().unwrap(), current: "0.36%".parse().unwrap() }
    }

    fn deposit() -> NoticeDeposit {
        let principal = Money::new(20_000_000, Currency::CNY);
        NoticeDeposit { principal, opened: date(2024, 3, 1), lapsed: Vec::new() }
    }

    fn notice(minor: i64) -> Notice {
        Notice { given: date(2024, 5, 24), withdraws: date(2024, 5, 31), minor }
    }

    /// Fen of interest and the reasons given.
    fn earned(minor: i64, on: Date, notice: Option<&Notice>) -> (i64, Vec<Why>) {
        let (earned, _) = deposit().withdraw(&TERMS, minor, on, notice, rates()).unwrap();
        let reasons = earned.parts.iter().map(|part| part.why).collect();
        (earned.interest_minor().unwrap(), reasons)
    }

    #[test]
    fn what_does_not_keep_to_the_notice_earns_the_current_rate() {
        // 91 days: 10,000,000 fen earn 34,125 at 1.35 % and 9,100 at 0.36 %.
        let on = date(2024, 5, 31);
        let agreed = notice(10_000_000);
        assert_eq!(earned(10_000_000, on, Some(&agreed)), (34_125, vec![Why::Agreed]));
        assert_eq!(earned(10_000_000, on, None), (9_100, vec![Why::NoNotice]));
        let late = Notice { given: date(2024, 5, 25), ..agreed };
        assert_eq!(earned(10_000_000, on, Some(&late)), (9_100, vec![Why::NoNotice]));
        let (more, reasons) = earned(12_000_000, on, Some(&agreed));
        assert_eq!((more, reasons), (34_125 + 1_820, vec![Why::Agreed, Why::MoreThanNotified]));
        assert_eq!(earned(10_000_000, date(2024, 5, 30), Some(&agreed)), (9_000, vec![Why::OtherDay]));
        assert_eq!(earned(10_000_000, date(2024, 6, 1), Some(&agreed)), (9_200, vec![Why::OtherDay]));
        assert_eq!(earned(4_999_900, on, Some(&agreed)), (4_550, vec![Why::BelowMinimum]));
        assert_eq!(earned(10_000_000, date(2024, 3, 7), None), (600, vec![Why::HeldTooShort]));
    }

    #[test]
    fn a_notice_that_is_not_carried_out_costs_the_interest_of_its_days() {
        let on = date(2024, 5, 31);
        let asked = notice(15_000_000);
        let (_, rest) = deposit().withdraw(&TERMS, 10_000_000, on, Some(&asked), rates()).unwrap();
        assert_eq!(rest.lapsed, [notice(5_000_000)]);
        // 101 days at 1.35 % of 10,000,000, less 7 days of 5,000,000.
        let later = Notice { given: date(2024, 6, 3), withdraws: date(2024, 6, 10), minor: 10_000_000 };
        let (earned, left) =
            rest.withdraw(&TERMS, 10_000_000, date(2024, 6, 10), Some(&later), rates()).unwrap();
        assert_eq!(earned.interest_minor(), Ok(37_875 - 1_313 + 1));
        assert_eq!(earned.parts[1].why, Why::NoticeLapsed);
        assert!(left.lapsed.is_empty() && left.principal.minor == 0);
    }
}
