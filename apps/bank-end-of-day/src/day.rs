//! The business day of a unit, as the one record that says where its end stands.
//!
//! ```text
//! open ──cut-off──► cut off ──start──► running(loans) ──► … ──start──► running(deposits) ──► … ──trial balance──► closed
//!   ▲                                                                                                               │
//!   └───────────────────────────────── the next day has been open since the cut-off ────────────────────────────────┘
//! ```
//! At most one day is being closed; it is always the one before the open day. The record is stored with every change, in
//! the transaction of what it speaks of, by compare-and-set.

use dujiang_bank_general_ledger::TrialBalance;
use dujiang_bank_general_ledger::trial::Imbalance;
use dujiang_routing::AccountNumber;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// Most ranges of a step, which are worked on side by side: more than processors bring nothing.
pub const RANGES_MAX: usize = 256;

/// The steps of the end of a day, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// What falls due is collected; lateness, classes, interest of loans. First, because it takes from deposits.
    Loans,
    /// Interest of deposits.
    Deposits,
}

impl Step {
    /// All of them in their order. The trial balance comes after them.
    pub const ALL: [Self; 2] = [Self::Loans, Self::Deposits];
}

/// Accounts that are worked on one after the other, and how far that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Accounts above this one; none from the first on.
    pub after: Option<AccountNumber>,
    /// Accounts up to this one, included; none to the last.
    pub through: Option<AccountNumber>,
    /// The last account that is done.
    pub cursor: Option<AccountNumber>,
    /// True if there are no more.
    pub done: bool,
}

/// Which accounts come next: those above `after` up to `through`, in order, at most as many as a slice has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceId {
    /// The day that is closed.
    pub day: Date,
    /// Which step.
    pub step: Step,
    /// Which range.
    pub range: usize,
    /// Accounts above this one.
    pub after: Option<AccountNumber>,
    /// Up to this one, included.
    pub through: Option<AccountNumber>,
}

/// How far a slice went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// Up to this account, included; there may be more.
    Account(AccountNumber),
    /// To the end of the range.
    End,
}

/// Where a unit's day stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No day is being closed.
    Open,
    /// The cut-off was taken, or a step is done: this step is to be started.
    Due(Step),
    /// A step runs.
    Running(Step),
    /// All steps are done: the trial balance is to be looked at.
    TrialBalance,
}

/// The business day of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitDay {
    /// The day bookings belong to.
    open: Date,
    /// The end of the day before it, until it is closed.
    closing: Option<Closing>,
}

/// The end of a day under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Closing {
    /// The step that runs or comes next; none when all are done.
    step: Option<Step>,
    /// Its ranges; none before it is started.
    ranges: Vec<Range>,
}

/// Why the day does not go that way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DayError {
    /// The day before is not closed.
    #[error("{0} is not closed yet: the next cut-off comes after that")]
    StillClosing(Date),
    /// The open day lies ahead of the calendar.
    #[error("{open} has not begun, it is {today}: its cut-off is not taken before")]
    Ahead {
        /// The open day.
        open: Date,
        /// The day of the calendar.
        today: Date,
    },
    /// The calendar ends.
    #[error("there is no day after {0}")]
    EndOfCalendar(Date),
    /// Another thing is to be done now.
    #[error("that is not to be done now: the day is {0:?}")]
    NotNow(Phase),
    /// Ranges that leave accounts out, overlap, or are too many.
    #[error(
        "ranges of accounts begin before the first, follow one another without gap, and are at most {RANGES_MAX}"
    )]
    Ranges,
    /// Somebody else has done that slice.
    #[error("the slice is not the one that comes next: somebody else has done it, or it is of another day")]
    Stale,
    /// A slice that reached nothing new, or more than its range.
    #[error("the slice reached an account outside of what it was to do")]
    Outside,
    /// The books do not balance: the day is not closed.
    #[error("the books of {} member branches and currencies do not balance", .0.len())]
    Unbalanced(Vec<Imbalance>),
}

impl UnitDay {
    /// A unit whose first business day begins.
    pub fn begin(open: Date) -> Self {
        Self { open, closing: None }
    }

    /// The day bookings belong to.
    pub fn open(&self) -> Date {
        self.open
    }

    /// The day that is being closed: bookings of the end of day belong to it.
    pub fn closing(&self) -> Option<Date> {
        self.closing.as_ref().and_then(|_| self.open.yesterday().ok())
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        match &self.closing {
            None => Phase::Open,
            Some(Closing { step: None, .. }) => Phase::TrialBalance,
            Some(Closing { step: Some(step), ranges }) if ranges.is_empty() => Phase::Due(*step),
            Some(Closing { step: Some(step), .. }) => Phase::Running(*step),
        }
    }

    /// Takes the cut-off on a day of the calendar: bookings belong to the next business day from now on. Returns the day
    /// that is cut off.
    pub fn take_cut_off(&mut self, today: Date) -> Result<Date, DayError> {
        if let Some(day) = self.closing() {
            return Err(DayError::StillClosing(day));
        }
        if self.open > today {
            return Err(DayError::Ahead { open: self.open, today });
        }
        let day = self.open;
        self.open = day.tomorrow().map_err(|_| DayError::EndOfCalendar(day))?;
        self.closing = Some(Closing { step: Step::ALL.first().copied(), ranges: Vec::new() });
        Ok(day)
    }

    /// Starts the step that is due, cut at these accounts into ranges that are worked on side by side.
    pub fn start(&mut self, step: Step, cuts: &[AccountNumber]) -> Result<(), DayError> {
        let phase = self.phase();
        let closing = self.closing.as_mut().ok_or(DayError::NotNow(phase))?;
        if phase != Phase::Due(step) {
            return Err(DayError::NotNow(phase));
        }
        if cuts.len() >= RANGES_MAX || !cuts.is_sorted_by(|a, b| a < b) {
            return Err(DayError::Ranges);
        }
        let afters = std::iter::once(None).chain(cuts.iter().copied().map(Some));
        let throughs = cuts.iter().copied().map(Some).chain([None]);
        let range = |(after, through)| Range { after, through, cursor: None, done: false };
        closing.ranges = afters.zip(throughs).map(range).collect();
        Ok(())
    }

    /// The ranges of the step that runs.
    pub fn ranges(&self) -> &[Range] {
        self.closing.as_ref().map_or(&[], |closing| &closing.ranges)
    }

    /// What comes next in a range; none if it is done or no step runs.
    pub fn next_slice(&self, range: usize) -> Option<SliceId> {
        let (day, closing) = (self.closing()?, self.closing.as_ref()?);
        let (step, now) = (closing.step?, closing.ranges.get(range)?);
        let after = now.cursor.or(now.after);
        (!now.done).then_some(SliceId { day, step, range, after, through: now.through })
    }

    /// Moves the cursor past a slice. To be stored in one transaction with what the slice writes; refused, nothing of the
    /// slice is to be written.
    pub fn applied(&mut self, slice: SliceId, reached: Reached) -> Result<(), DayError> {
        if self.next_slice(slice.range) != Some(slice) {
            return Err(DayError::Stale);
        }
        let closing = self.closing.as_mut().ok_or(DayError::Stale)?;
        let range = closing.ranges.get_mut(slice.range).ok_or(DayError::Stale)?;
        match reached {
            Reached::End => range.done = true,
            Reached::Account(account) => {
                let beyond = slice.through.is_some_and(|through| account > through);
                if Some(account) <= slice.after || beyond {
                    return Err(DayError::Outside);
                }
                range.cursor = Some(account);
            }
        }
        if closing.ranges.iter().all(|range| range.done) {
            closing.step = Step::ALL.into_iter().find(|step| Some(*step) > closing.step);
            closing.ranges.clear();
        }
        Ok(())
    }

    /// Closes the day, if the books of its end balance. Returns the day that is closed.
    pub fn close(&mut self, trial: &TrialBalance) -> Result<Date, DayError> {
        let phase = self.phase();
        let day = self.closing().filter(|_| phase == Phase::TrialBalance).ok_or(DayError::NotNow(phase))?;
        let imbalances = trial.imbalances();
        if !imbalances.is_empty() {
            return Err(DayError::Unbalanced(imbalances));
        }
        self.closing = None;
        Ok(day)
    }
}
