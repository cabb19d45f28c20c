//! Loans: schedules, what a payment pays first, what lateness costs, early repayment, and classes of risk.
//!
//! Revolving credit needs no schedule: what is drawn earns interest by the day like a deposit, under the same
//! [`crate::InterestTerms`] and [`crate::Accrual`].

pub mod allocation;
pub mod annuity;
pub mod class;
pub mod early;
pub mod overdue;
pub mod schedule;
