//! What to ask next: all choices from one seed.

use std::collections::VecDeque;

use dujiang_types::{Currency, Money};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::journal::Receipt;
use crate::load::Mix;
use crate::request::Request;

/// Transfers remembered for a later reversal; older ones are forgotten.
const REVERSIBLE_MAX: usize = 1_000;
/// Largest amount paid: small beside a deposit, so that accounts do not run dry in a long load.
const AMOUNT_MINOR_MAX: i64 = 2_000;

/// A request and the client it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What to ask.
    pub request: Request,
    /// Chooses the gateway nearest to the customer.
    pub near: usize,
    /// True if a reversal may follow once this is acknowledged.
    pub reversible: bool,
}

/// What a load is made of.
pub trait Plan: std::fmt::Debug + Send {
    /// The next operation.
    fn draw(&mut self) -> Planned;

    /// Takes note of what was acknowledged.
    fn acknowledged(&mut self, planned: Planned, receipt: Receipt);

    /// Operations to be carried out one after the other once all others have ended.
    fn last(&mut self) -> Vec<Planned> {
        Vec::new()
    }
}

/// Kinds of operations in a mix.
enum Kind {
    Within,
    Across,
    Deposit,
    Reversal,
    Read,
}

/// Chooses operations.
#[derive(Debug)]
pub struct Planner {
    rng: StdRng,
    mix: Mix,
    /// Account numbers by unit.
    accounts: Vec<Vec<String>>,
    reversible: VecDeque<(String, String)>,
}

impl Planner {
    /// Plans for these accounts; every unit has at least two.
    pub fn new(seed: u64, mix: Mix, accounts: Vec<Vec<String>>) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), mix, accounts, reversible: VecDeque::new() }
    }

    /// Remembers a transfer, so that it can be reversed.
    fn remember(&mut self, account: String, posting: String) {
        if self.reversible.len() == REVERSIBLE_MAX {
            self.reversible.pop_front();
        }
        self.reversible.push_back((account, posting));
    }

    fn draw_kind(&mut self) -> Kind {
        let mix = &self.mix;
        let weights = [
            (Kind::Across, mix.across),
            (Kind::Deposit, mix.deposits),
            (Kind::Reversal, mix.reversals),
            (Kind::Read, mix.reads),
        ];
        let mut draw = self.rng.random_range(0..mix.total().max(1));
        for (kind, weight) in weights {
            if draw < weight {
                return kind;
            }
            draw -= weight;
        }
        Kind::Within
    }

    fn amount(&mut self) -> Money {
        Money::new(self.rng.random_range(1..=AMOUNT_MINOR_MAX), Currency::CNY)
    }
}

impl Plan for Planner {
    fn draw(&mut self) -> Planned {
        let unit = self.rng.random_range(0..self.accounts.len());
        let at = self.rng.random_range(0..self.accounts[unit].len());
        let account = self.accounts[unit][at].clone();
        let request = match self.draw_kind() {
            Kind::Across if self.accounts.len() > 1 => {
                let other = (unit + self.rng.random_range(1..self.accounts.len())) % self.accounts.len();
                let to = self.rng.random_range(0..self.accounts[other].len());
                let to = self.accounts[other][to].clone();
                Request::Transfer { from: account, to, amount: self.amount() }
            }
            Kind::Deposit => Request::Deposit { account, amount: self.amount() },
            Kind::Read => Request::Balance { account },
            Kind::Reversal if !self.reversible.is_empty() => {
                let (account, posting) = self.reversible.pop_front().unwrap_or_default();
                Request::Reversal { account, posting }
            }
            // Within the unit; also where there is no other unit, or nothing to reverse yet.
            _ => {
                let step = self.rng.random_range(1..self.accounts[unit].len());
                let to = self.accounts[unit][(at + step) % self.accounts[unit].len()].clone();
                let request = Request::Transfer { from: account, to, amount: self.amount() };
                return Planned { request, near: at, reversible: true };
            }
        };
        Planned { request, near: at, reversible: false }
    }

    fn acknowledged(&mut self, planned: Planned, receipt: Receipt) {
        if planned.reversible
            && let (Request::Transfer { from, .. }, Some(posting)) = (planned.request, receipt.posting)
        {
            self.remember(from, posting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Vec<Vec<String>> {
        (0..3).map(|unit| (0..4).map(|n| format!("{unit}{n}")).collect()).collect()
    }

    #[test]
    fn the_same_seed_asks_the_same_and_the_mix_is_kept() {
        let mut plan = Planner::new(7, Mix::default(), accounts());
        let mut again = Planner::new(7, Mix::default(), accounts());
        let (mut within, mut across, mut reads) = (0, 0, 0);
        for _ in 0..10_000 {
            let planned = plan.draw();
            assert_eq!(planned, again.draw());
            match planned.request {
                Request::Transfer { from, to, .. } => {
                    assert_ne!(from, to);
                    let same = from.as_bytes()[0] == to.as_bytes()[0];
                    assert_eq!(planned.reversible, same);
                    *(if same { &mut within } else { &mut across }) += 1;
                }
                Request::Balance { .. } => reads += 1,
                Request::Reversal { .. } => panic!("nothing was acknowledged"),
                _ => {}
            }
        }
        // 55 % within (reversals have nothing to reverse and become transfers), 20 % across, 15 % reads.
        assert!((5_200..5_800).contains(&within), "{within}");
        assert!((1_800..2_200).contains(&across), "{across}");
        assert!((1_300..1_700).contains(&reads), "{reads}");
    }

    #[test]
    fn an_acknowledged_transfer_is_reversed_once() {
        let mix = Mix { within: 0, across: 0, deposits: 0, reversals: 1, reads: 0 };
        let mut plan = Planner::new(1, mix, accounts());
        plan.remember("00".into(), "p".into());
        assert_eq!(plan.draw().request, Request::Reversal { account: "00".into(), posting: "p".into() });
        assert!(matches!(plan.draw().request, Request::Transfer { .. }));
    }
}
