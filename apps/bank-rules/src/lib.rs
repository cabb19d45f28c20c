//! The rules of the core bank: days, rates, interest and tax, deposits, loans, products.
//!
//! Pure: no IO, no clock, no async runtime. Days are given, never asked for; amounts are integers of minor units; what
//! lies between two minor units is kept exactly ([`Interest`]) and rounded once, where money moves. Every rule names
//! its source, here or in `docs/banking/`.

pub mod accrual;
pub mod calendar;
pub mod day_count;
pub mod error;
pub mod fixed_term;
pub mod interest;
pub mod loan;
pub mod notice;
pub mod product;
pub mod rate;
pub mod replay;
pub mod settlement;
pub mod terms;
pub mod withdrawal;

pub use accrual::{Accrual, Settled};
pub use day_count::DayCount;
pub use error::RuleError;
pub use interest::Interest;
pub use rate::{Dated, Factor, PostedRates, Rate, Since};
pub use settlement::Settlement;
pub use terms::{InterestTerms, Opening, Quotes, RateRule, RateSource};
