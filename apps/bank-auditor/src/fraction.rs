//! Fractions of integers of any size. A rate is what its text says, and nothing is rounded before money moves.

use num_bigint::BigInt;

/// A fraction with a denominator above zero; not reduced, sums are few.
#[derive(Debug, Clone)]
pub(crate) struct Fraction {
    over: BigInt,
    under: BigInt,
}

impl Fraction {
    /// Nothing.
    pub(crate) fn zero() -> Self {
        Self { over: BigInt::from(0), under: BigInt::from(1) }
    }

    /// `over` / `under`; the latter is above zero.
    pub(crate) fn new(over: impl Into<BigInt>, under: impl Into<BigInt>) -> Self {
        Self { over: over.into(), under: under.into() }
    }

    /// A percentage as text, `-0.35%`; none if it is no such text.
    pub(crate) fn percent(text: &str) -> Option<Self> {
        let number = Self::decimal(text.strip_suffix('%')?)?;
        Some(Self { under: number.under * 100, ..number })
    }

    /// A decimal as text, `1.5`; none if it is no such text.
    pub(crate) fn decimal(text: &str) -> Option<Self> {
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
        let all = format!("{whole}{decimals}");
        if all.is_empty() || all.len() > 30 || !all.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let ten = BigInt::from(10);
        let under = ten.pow(u32::try_from(decimals.len()).ok()?);
        Some(Self { over: all.parse::<BigInt>().ok()? * sign, under })
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        if self.under == other.under {
            return Self { over: &self.over + &other.over, under: self.under.clone() };
        }
        Self {
            over: &self.over * &other.under + &other.over * &self.under,
            under: &self.under * &other.under,
        }
    }

    pub(crate) fn times(&self, other: &Self) -> Self {
        Self { over: &self.over * &other.over, under: &self.under * &other.under }
    }

    /// The quotient by a fraction above zero; none by another one.
    pub(crate) fn divided(&self, other: &Self) -> Option<Self> {
        let above = other.over > BigInt::from(0);
        above.then(|| Self { over: &self.over * &other.under, under: &self.under * &other.over })
    }

    /// The fraction times a whole number, divided by another one above zero.
    pub(crate) fn scaled(&self, by: i128, divided: i32) -> Self {
        Self { over: &self.over * by, under: &self.under * divided }
    }

    /// The same fraction in its lowest terms: for sums that go on for years.
    pub(crate) fn reduced(&self) -> Self {
        let (mut a, mut b) = (self.over.clone(), self.under.clone());
        while b != BigInt::from(0) {
            (a, b) = (b.clone(), a % b);
        }
        let common = if a < BigInt::from(0) { -a } else { a };
        Self { over: &self.over / &common, under: &self.under / &common }
    }

    /// The nearest whole number; of two the one above.
    pub(crate) fn rounded(&self) -> i128 {
        let (over, under): (BigInt, BigInt) = (&self.over * 2 + &self.under, &self.under * 2);
        let whole = &over / &under;
        // Division of big integers cuts towards zero; what was cut below zero lies one lower.
        let cut = &whole * &under > over;
        let floor = if cut { whole - 1 } else { whole };
        // What does not fit is no amount of money: it will differ from whatever was booked.
        i128::try_from(floor).unwrap_or(i128::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_what_they_say_and_halves_go_up() {
        let percent = |text: &str| Fraction::percent(text).unwrap();
        assert_eq!(percent("0.72%").scaled(1_000_000, 1).rounded(), 7200);
        assert_eq!(percent("-50%").scaled(1, 1).rounded(), 0, "minus a half");
        assert_eq!(percent("-50.1%").scaled(1, 1).rounded(), -1);
        assert_eq!(percent("50%").plus(&percent("100%")).rounded(), 2);
        assert_eq!(percent("50%").plus(&Fraction::new(1, 3)).rounded(), 1);
        assert_eq!(Fraction::new(-7, 2).rounded(), -3);
        assert_eq!(Fraction::new(-70, 20).reduced().under, BigInt::from(2));
        assert_eq!(Fraction::new(0, 20).reduced().under, BigInt::from(1));
        assert_eq!(Fraction::decimal("1.5").unwrap().times(&percent("4%")).scaled(1000, 1).rounded(), 60);
        for bad in ["", "%", "1,5%", "1", "1e3%", "--1%", "٣%"] {
            assert!(Fraction::percent(bad).is_none(), "{bad}");
        }
    }
}
