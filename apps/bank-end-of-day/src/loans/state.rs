//! What end of day keeps for a loan.

use dujiang_bank_rules::calendar::tomorrow;
use dujiang_bank_rules::loan::allocation::{Allocation, Kind, Owed};
use dujiang_bank_rules::loan::class::Class;
use dujiang_bank_rules::loan::overdue::{Arrears, days_overdue};
use dujiang_bank_rules::loan::schedule::Instalment;
use dujiang_bank_rules::{Interest, RuleError};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{LoanAgreement, RiskTables};
use crate::Why;

/// An instalment and what of it is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Due {
    /// The instalment.
    pub instalment: Instalment,
    /// Principal that is paid.
    pub principal_paid_minor: i64,
    /// Interest that is paid.
    pub interest_paid_minor: i64,
    /// Penalty within the days of grace: it counts if the instalment is still open after them.
    pub in_grace: Interest,
}

/// What is booked of a loan besides its principal, since it was drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Booked {
    /// Interest as income.
    pub interest_minor: i64,
    /// Penalty as income.
    pub penalty_minor: i64,
    /// The allowance.
    pub provision_minor: i64,
}

/// What end of day keeps for a loan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoanState {
    /// The first day it has not had.
    pub until: Date,
    /// Instalments, the first one first.
    pub dues: Vec<Due>,
    /// Penalty that counts, exactly.
    pub penalty: Interest,
    /// Penalty that is paid.
    pub penalty_paid_minor: i64,
    /// What is booked.
    pub booked: Booked,
    /// The class by days overdue.
    pub class: Class,
}

impl Due {
    fn principal_open(&self) -> i64 {
        self.instalment.principal_minor - self.principal_paid_minor
    }

    fn interest_open(&self) -> i64 {
        self.instalment.interest_minor - self.interest_paid_minor
    }

    fn is_open(&self) -> bool {
        self.principal_open() > 0 || self.interest_open() > 0
    }

    fn arrears(&self) -> Arrears {
        Arrears {
            due: self.instalment.due,
            principal_minor: self.principal_open(),
            interest_minor: self.interest_open(),
        }
    }

    /// Interest that has grown by the end of a day: evenly over the days of the period, a half up.
    fn earned(&self, day: Date) -> Result<i64, RuleError> {
        let Instalment { from, due, interest_minor, .. } = self.instalment;
        let days = |to: Date| i128::from((to - from).get_days());
        let (gone, all) = (days(tomorrow(day)?), days(due));
        if gone >= all {
            return Ok(interest_minor);
        }
        let twice = i128::from(interest_minor) * gone.max(0) * 2 + all;
        i64::try_from(twice.div_euclid(all * 2)).map_err(|_| RuleError::OutOfRange)
    }
}

impl LoanState {
    /// Of a loan that is drawn on a day, by its schedule.
    pub fn drawn(on: Date, schedule: &[Instalment]) -> Self {
        let due = |instalment: &Instalment| Due {
            instalment: *instalment,
            principal_paid_minor: 0,
            interest_paid_minor: 0,
            in_grace: Interest::ZERO,
        };
        Self {
            until: on,
            dues: schedule.iter().map(due).collect(),
            penalty: Interest::ZERO,
            penalty_paid_minor: 0,
            booked: Booked::default(),
            class: Class::Normal,
        }
    }

    /// Principal that is not paid, due or not.
    pub fn outstanding_minor(&self) -> Result<i64, RuleError> {
        let mut opens = self.dues.iter().map(Due::principal_open);
        opens.try_fold(0_i64, i64::checked_add).ok_or(RuleError::OutOfRange)
    }

    /// Days on a day that the oldest open amount is overdue.
    pub fn days_overdue(&self, day: Date) -> u32 {
        let open = self.dues.iter().filter(|due| due.is_open());
        open.map(|due| days_overdue(due.instalment.due, day)).max().unwrap_or(0)
    }

    /// What is open after its days of grace costs penalty, from its due date on. The loan must have had all days before.
    pub(super) fn begin_day(&mut self, agreement: &LoanAgreement, day: Date) -> Result<(), Why> {
        if self.until != day {
            return Err(Why::Behind { until: self.until });
        }
        for due in &mut self.dues {
            if due.is_open() && agreement.penalty.applies(due.instalment.due, day) {
                self.penalty = self.penalty.plus(due.in_grace)?;
                due.in_grace = Interest::ZERO;
            }
        }
        Ok(())
    }

    /// Takes a payment on a day, in the product's order, as far as something is owed: at the end of the day, or at a
    /// counter on the open day, once the loan has had all days before.
    pub fn pay(&mut self, agreement: &LoanAgreement, day: Date, minor: i64) -> Result<Allocation, Why> {
        self.begin_day(agreement, day)?;
        let allocation = agreement.order.allocate(minor, &self.owed(day)?)?;
        self.paid(&allocation.paid)?;
        Ok(allocation)
    }

    /// What is owed on a day. Penalty is owed as one amount, as old as the oldest arrears.
    pub fn owed(&self, day: Date) -> Result<Vec<Owed>, RuleError> {
        let mut owed = Vec::new();
        let fallen_due = self.dues.iter().filter(|due| due.instalment.due <= day && due.is_open());
        for open in fallen_due {
            let due = open.instalment.due;
            let (interest, principal) = if due < day {
                (Kind::OverdueInterest, Kind::OverduePrincipal)
            } else {
                (Kind::Interest, Kind::Principal)
            };
            owed.push(Owed { due, kind: interest, minor: open.interest_open() });
            owed.push(Owed { due, kind: principal, minor: open.principal_open() });
        }
        let penalty = self.penalty.rounded()?.checked_sub(self.penalty_paid_minor);
        let minor = penalty.ok_or(RuleError::OutOfRange)?;
        let due = owed.first().map_or(day, |owed| owed.due);
        owed.push(Owed { due, kind: Kind::Penalty, minor });
        owed.retain(|owed| owed.minor > 0);
        Ok(owed)
    }

    /// Takes what was paid of what is owed.
    fn paid(&mut self, paid: &[Owed]) -> Result<(), Why> {
        for paid in paid {
            let due = self.dues.iter_mut().find(|due| due.instalment.due == paid.due);
            let sum = match (paid.kind, due) {
                (Kind::Penalty | Kind::Fee, _) => &mut self.penalty_paid_minor,
                (Kind::OverdueInterest | Kind::Interest, Some(due)) => &mut due.interest_paid_minor,
                (Kind::OverduePrincipal | Kind::Principal, Some(due)) => &mut due.principal_paid_minor,
                (_, None) => return Err(Why::OutOfRange),
            };
            *sum = sum.checked_add(paid.minor).ok_or(Why::OutOfRange)?;
        }
        Ok(())
    }

    /// A day of lateness of what is open at its end.
    pub(super) fn end_day(&mut self, agreement: &LoanAgreement, day: Date) -> Result<(), RuleError> {
        let to = tomorrow(day)?;
        for due in self.dues.iter_mut().filter(|due| due.instalment.due <= day) {
            if !due.is_open() {
                due.in_grace = Interest::ZERO;
                continue;
            }
            let cost = agreement.penalty.penalty(&due.arrears(), agreement.terms.rate, day, to)?;
            let cost = cost.on_principal.plus(cost.on_interest)?;
            let counts = agreement.penalty.applies(due.instalment.due, day);
            let sum = if counts { &mut self.penalty } else { &mut due.in_grace };
            *sum = sum.plus(cost)?;
        }
        self.until = to;
        Ok(())
    }

    /// Classes the loan and says what is to be booked by the end of a day.
    pub(super) fn assess(&mut self, day: Date, risk: &RiskTables) -> Result<(), RuleError> {
        let overdue = self.days_overdue(day);
        self.class = risk.classes.class(overdue);
        let mut paid = self.dues.iter().map(|due| due.interest_paid_minor);
        let interest_paid = paid.try_fold(0_i64, i64::checked_add).ok_or(RuleError::OutOfRange)?;
        let (mut interest, mut penalty) = (interest_paid, self.penalty_paid_minor);
        if overdue <= risk.suspended_after_days {
            let earned = self
                .dues
                .iter()
                .try_fold(0_i64, |sum, due| sum.checked_add(due.earned(day)?).ok_or(RuleError::OutOfRange))?;
            interest = interest.max(earned);
            penalty = penalty.max(self.penalty.rounded()?);
        }
        let provision_minor = risk.provisions.provision(self.class, self.outstanding_minor()?)?;
        self.booked = Booked { interest_minor: interest, penalty_minor: penalty, provision_minor };
        Ok(())
    }
}
