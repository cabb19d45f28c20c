//! The instalment that repays a loan in equal parts.

use num_bigint::BigInt;

use crate::{Rate, RuleError};

/// The equal instalment that repays `principal_minor` in periods of so many days of interest, rounded once, a half up.
///
/// It is the A for which the balance after the last period is zero when no amount is rounded:
/// `P · Πqₖ = A · Σₖ Πⱼ₎ₖ qⱼ` with `qₖ = 1 + rate · daysₖ / year`. For equal periods that is the well-known
/// `A = P · r · (1 + r)ⁿ / ((1 + r)ⁿ - 1)`. Both sides are computed as integers of any size, so the only rounding is
/// the last.
pub fn instalment(principal_minor: i64, rate: Rate, year_days: i32, days: &[i32]) -> Result<i64, RuleError> {
    if days.is_empty() {
        return Err(RuleError::NotPositive);
    }
    let one = BigInt::from(Rate::ONE) * year_days;
    let mut grown = BigInt::from(principal_minor);
    let mut paid = BigInt::from(0);
    let mut scale = BigInt::from(1);
    for days in days {
        let growth = &one + BigInt::from(rate.units()) * *days;
        scale *= &one;
        grown *= &growth;
        paid = paid * &growth + &scale;
    }
    if paid <= BigInt::from(0) {
        return Err(RuleError::OutOfRange);
    }
    // Half up: floor((2·grown + paid) / (2·paid)), and neither is negative.
    let rounded: BigInt = (grown * 2 + &paid) / (paid * 2);
    i64::try_from(rounded).map_err(|_| RuleError::OutOfRange)
}
