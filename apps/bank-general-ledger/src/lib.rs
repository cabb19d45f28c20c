//! The general ledger: the chart of accounts, which codes an event of a product is booked under, and the trial balance.
//!
//! * [`chart`]: accounts with parents and normal balances, as data (`data/chart.json`);
//! * [`mapping`]: events of products to codes, as data (`data/mapping.json`), with deviations per member and branch;
//! * [`trial`]: trial balances per member, branch and currency from entries alone.
//!
//! Pure: no IO, no clock. Both tables are compiled in and validated when they are first used, and by tests.
//!
//! Source of the codes: Ministry of Finance, Accounting Standards for Business Enterprises, application guidance of 2006,
//! appendix on accounts: four digits are the standard's accounts, the two that follow are this bank's own.

pub mod chart;
pub mod mapping;
pub mod trial;

pub use chart::{Chart, Class, Code, Normal, Purpose, Side};
pub use mapping::{Entry, Event, Mapping, Place, ProductClass};
pub use trial::TrialBalance;
