//! Why a rule could not be applied.

use dujiang_types::MoneyError;
use jiff::civil::Date;

/// Why a rule could not be applied. Nothing is guessed: who gets one of these has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// An amount or a date lies outside of what can be represented.
    #[error("the amount or the date is out of range")]
    OutOfRange,
    /// Two amounts cannot be combined.
    #[error("amounts cannot be combined")]
    Money(#[from] MoneyError),
    /// The text is not a rate.
    #[error(
        "{0:?} is not a rate: write a percentage with its sign, at most 4 decimals, from -100% to 1000%: 0.35%"
    )]
    MalformedRate(String),
    /// The text is not a factor.
    #[error("{0:?} is not a factor: write a number from 0 to 10 with at most 4 decimals: 1.5")]
    MalformedFactor(String),
    /// A rate that was multiplied once cannot be multiplied again and stay exact.
    #[error("the product of a rate and a factor is not exact")]
    Inexact,
    /// Values by date do not begin on dates that rise.
    #[error("dates must rise: {0} does not come after the one before it")]
    DatesOutOfOrder(Date),
    /// No value holds on that day.
    #[error("no value holds on {on} for {name:?}: the first one begins later, or there is none")]
    NoValue {
        /// What was looked for.
        name: String,
        /// The day.
        on: Date,
    },
    /// No tier covers the deposit's term.
    #[error("no tier of the rate covers a term of {0} months")]
    NoTier(u16),
    /// The end lies before the beginning.
    #[error("{to} lies before {from}")]
    Backwards {
        /// The beginning.
        from: Date,
        /// The end.
        to: Date,
    },
    /// Interest is to be settled for days that are not accrued, or for more days than are to be settled.
    #[error("interest is accrued up to {until}, and {wanted} was to be settled")]
    NotAccruedTo {
        /// The first day that is not accrued.
        until: Date,
        /// The first day that is not to be settled.
        wanted: Date,
    },
    /// The tiers are others than those under which the period began.
    #[error(
        "the tiers of the rate changed within a settlement period: let the change begin after a settlement"
    )]
    TiersChanged,
    /// No business day was found near a date.
    #[error("there is no business day within a month of {0}: look at the calendar of holidays")]
    NoBusinessDay(Date),
    /// More is to be taken than there is.
    #[error("{wanted_minor} minor units were to be taken and there are {available_minor}")]
    NotEnough {
        /// What was wanted.
        wanted_minor: i64,
        /// What there is.
        available_minor: i64,
    },
    /// Less than the smallest amount of its kind.
    #[error("{minor} minor units are less than the smallest such amount, {min_minor}")]
    BelowMinimum {
        /// The amount.
        minor: i64,
        /// The smallest.
        min_minor: i64,
    },
    /// A period's interest alone is more than the instalment, so the loan would grow.
    #[error(
        "instalment {number} of {amount_minor} minor units is less than its interest of {interest_minor}"
    )]
    InstalmentBelowInterest {
        /// Its number.
        number: u16,
        /// The instalment.
        amount_minor: i64,
        /// The interest.
        interest_minor: i64,
    },
    /// An amount must be more than zero.
    #[error("the amount must be more than zero")]
    NotPositive,
    /// More steps than any true case needs.
    #[error("more than {0} steps")]
    TooLong(usize),
}
