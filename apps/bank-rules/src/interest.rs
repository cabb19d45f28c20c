//! Interest between two minor units, exactly.
//!
//! What a balance earns in some days is `balance · rate · days / year`, with a rate that is an integer of 10⁻¹⁰ and a
//! year of 360 or 365 days. So all interest there can be is a whole number of *atoms* of 1 / (10¹⁰ · 26280) of a minor
//! unit, 26280 being the least common multiple of 360 and 365. Sums of atoms are exact in any order, need neither
//! division nor growing denominators, and fit 128 bits: the largest balance at the highest rate for a hundred years is
//! 2.5 · 10³⁶ of them.

use serde::{Deserialize, Serialize};

use crate::{Rate, RuleError};

/// Least common multiple of the years' days, 360 and 365.
const YEARS: i128 = 26_280;
/// Atoms of one minor unit.
const ATOMS_PER_MINOR: i128 = Rate::ONE as i128 * YEARS;

/// An exact amount of interest in minor units and what lies between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Interest(i128);

impl Interest {
    /// None.
    pub const ZERO: Self = Self(0);

    /// What `minor_days` earn at a yearly rate; `minor_days` is a balance in minor units times days, or a sum of such
    /// products, and `year_days` a day count's year.
    pub fn earned(minor_days: i128, rate: Rate, year_days: i32) -> Result<Self, RuleError> {
        debug_assert_eq!(YEARS % i128::from(year_days), 0, "a year of 360 or 365 days");
        let atoms = minor_days.checked_mul(i128::from(rate.units()));
        let atoms = atoms.and_then(|atoms| atoms.checked_mul(YEARS / i128::from(year_days)));
        atoms.map(Self).ok_or(RuleError::OutOfRange)
    }

    /// Whole minor units.
    pub fn of_minor(minor: i64) -> Self {
        Self(i128::from(minor) * ATOMS_PER_MINOR)
    }

    /// The sum.
    pub fn plus(self, other: Self) -> Result<Self, RuleError> {
        self.0.checked_add(other.0).map(Self).ok_or(RuleError::OutOfRange)
    }

    /// The difference.
    pub fn minus(self, other: Self) -> Result<Self, RuleError> {
        self.0.checked_sub(other.0).map(Self).ok_or(RuleError::OutOfRange)
    }

    /// Whole minor units, a half rounded up, towards plus infinity.
    ///
    /// This is the one rounding of interest. For what is positive it is the customary one. It does not turn at zero on
    /// purpose: rounding the same way everywhere means that `rounded(x + n) = rounded(x) + n` for every whole n, and only
    /// then do roundings with the remainder carried add up to the rounded whole.
    pub fn rounded(self) -> Result<i64, RuleError> {
        let half_up = self.0.checked_add(ATOMS_PER_MINOR / 2).ok_or(RuleError::OutOfRange)?;
        i64::try_from(half_up.div_euclid(ATOMS_PER_MINOR)).map_err(|_| RuleError::OutOfRange)
    }

    /// Atoms, for who stores it: a number of up to 39 digits.
    pub fn atoms(self) -> i128 {
        self.0
    }

    /// Of atoms that were stored.
    pub fn of_atoms(atoms: i128) -> Self {
        Self(atoms)
    }
}

/// A share of an amount, such as tax or a fee: rounded once, a half up.
pub fn share(amount_minor: i64, rate: Rate) -> Result<i64, RuleError> {
    // One year of interest is exactly the share.
    Interest::earned(i128::from(amount_minor) * 360, rate, 360)?.rounded()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interest_is_exact_and_rounds_once() {
        let rate = "0.72%".parse().unwrap();
        let day = Interest::earned(1_000_000, rate, 365).unwrap();
        let mut sum = Interest::ZERO;
        for _ in 0..365 {
            sum = sum.plus(day).unwrap();
        }
        assert_eq!(sum, Interest::of_minor(7200));
        assert_eq!((day.rounded(), Interest::of_minor(-3).rounded()), (Ok(20), Ok(-3)));
    }

    #[test]
    fn a_half_goes_up_on_both_sides_of_zero() {
        let half = Interest::of_atoms(ATOMS_PER_MINOR / 2);
        for whole in -2..=2 {
            let amount = Interest::of_minor(whole).plus(half).unwrap();
            assert_eq!(amount.rounded(), Ok(whole + 1));
            assert_eq!(amount.minus(Interest::of_atoms(1)).unwrap().rounded(), Ok(whole));
        }
    }

    #[test]
    fn the_largest_balance_for_a_hundred_years_fits_and_more_is_refused() {
        let highest = "1000%".parse().unwrap();
        let century = i128::from(i64::MAX) * 36_525;
        let interest = Interest::earned(century, highest, 360).unwrap();
        assert_eq!(interest.rounded(), Err(RuleError::OutOfRange));
        assert_eq!(Interest::earned(i128::MAX / 1000, highest, 360), Err(RuleError::OutOfRange));
        assert_eq!(Interest::of_atoms(i128::MAX).plus(interest), Err(RuleError::OutOfRange));
    }

    #[test]
    fn shares_round_once() {
        let tax = "20%".parse().unwrap();
        assert_eq!([1803, 1805, 1808, 0, -5].map(|fen| share(fen, tax)), [361, 361, 362, 0, -1].map(Ok));
    }
}
