//! Payment messages of ISO 20022: bytes in, typed payments or told faults out; and back.
//!
//! | message | module | read | written |
//! |---|---|---|---|
//! | `pain.001.001.09` customer's credit transfers | [`pain001`] | yes | yes |
//! | `pacs.008.001.08` credit transfers between banks | [`pacs008`] | yes | yes |
//! | `pain.002.001.10`, `pacs.002.001.10` what became of each of them | [`status`] | yes | yes |
//! | `camt.053.001.08` statement of an account | [`camt053`] | yes | yes |
//!
//! Pure: no IO, no clock, no runtime. What a message may contain is a table of its own schema ([`schema`]); the same
//! table judges what is read and what is written, so this bank sends nothing that it would refuse.
//!
//! # What a fault concerns
//! A transfer that is wrong is refused alone and its neighbours go on; a fault of a payment instruction refuses its
//! transfers; only what concerns the whole message (not XML, header, counts, sums) refuses everything. Every
//! [`Fault`] has its place, a stable code, the reason code to answer with, and says what to do.
//!
//! # Limits
//! Elements that the schema has and this bank does not act upon are refused by name (`element.unsupported`), never
//! dropped: money is not sent on half an instruction. What those are is in decision 0024.

pub mod camt053;
pub mod common;
pub mod fault;
pub mod moment;
pub mod pacs008;
pub mod pain001;
pub mod schema;
pub mod status;
mod totals;
mod value;
pub mod xml;

pub use fault::{Fault, FaultCode, Faults, Scope};
pub use moment::Moment;

/// Most transfers of one message. Larger files are cut by whoever sends them: an answer is due for the whole of it, and
/// this many fit well below the limits of size.
pub const TRANSFERS_MAX: usize = 10_000;

/// What a message is judged against besides itself. There is no clock in here, so the caller says which day it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The bank's present business day: what is to be executed earlier is refused.
    pub business_day: jiff::civil::Date,
    /// How many days ahead of it an execution may be asked for.
    pub days_ahead_max: i32,
}

impl Terms {
    /// A year ahead is what this bank keeps orders for.
    pub const DAYS_AHEAD: i32 = 366;

    /// The usual terms on a business day.
    pub fn on(business_day: jiff::civil::Date) -> Self {
        Self { business_day, days_ahead_max: Self::DAYS_AHEAD }
    }

    /// Judges the day of an execution; the answer says what is wrong with it.
    fn judge(self, day: jiff::civil::Date) -> Option<(FaultCode, String)> {
        let ahead = (day - self.business_day).get_days();
        if ahead < 0 {
            Some((FaultCode::DatePast, format!("{day} is before the business day {}", self.business_day)))
        } else {
            self.judge_settlement(day)
        }
    }

    /// Judges the day of a settlement between banks, which may be over when its message arrives.
    fn judge_settlement(self, day: jiff::civil::Date) -> Option<(FaultCode, String)> {
        let ahead = (day - self.business_day).get_days();
        let detail = || format!("{day} is {ahead} days ahead, at most {} are taken", self.days_ahead_max);
        (ahead > self.days_ahead_max).then(|| (FaultCode::DateTooFar, detail()))
    }
}
