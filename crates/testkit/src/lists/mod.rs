//! Lists that transactions append to and read: what a load of them does, and whether what its clients saw can have
//! happened in one order.

mod history;
mod plan;

pub use history::ListsReport;
pub(crate) use history::check;
pub(crate) use plan::Planner;
