//! The general ledger is what entries come to, and what accounts and agreements say it must be.

use std::collections::{BTreeMap, BTreeSet};

use dujiang_types::Currency;

use crate::Report;
use crate::books::{Books, Place};

/// In whose books, in which currency, under which code.
type Line = (Place, Currency, String);

/// What codes must come to, as accounts and agreements say.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// Above zero for credit.
    credits: BTreeMap<Line, i128>,
    codes: BTreeSet<String>,
}

impl Expected {
    /// Adds to what a code must come to. Once a code is named, all of it must be accounted for, everywhere.
    pub(crate) fn add(&mut self, place: &Place, currency: Currency, code: &str, credit_minor: i128) {
        self.codes.insert(code.to_owned());
        *self.credits.entry((place.clone(), currency, code.to_owned())).or_default() += credit_minor;
    }
}

/// Sums of debits and credits.
#[derive(Debug, Clone, Copy, Default)]
struct Turnover {
    debits: i128,
    credits: i128,
}

pub(crate) fn audit(books: &Books, expected: &Expected, report: &mut Report) {
    let mut lines: BTreeMap<Line, Turnover> = BTreeMap::new();
    let principals: BTreeSet<&str> =
        books.accounts.iter().map(|account| account.principal.as_str()).collect();
    for entry in books.entries.iter().filter(|entry| entry.booked_on <= books.closed_through) {
        let key = (entry.place.clone(), entry.currency, entry.code.clone());
        let line = lines.entry(key).or_default();
        let minor = i128::from(entry.credit_minor);
        if minor < 0 {
            line.debits -= minor;
        } else {
            line.credits += minor;
        }
        if entry.account.is_none() && principals.contains(entry.code.as_str()) {
            let detail = format!("customers' money under {} without account", entry.code);
            report.tell("ledger.no_account", entry.number, detail);
        }
    }
    report.looked_at.lines = lines.len() as u64;
    trial(books, &lines, report);
    let named = |line: &&Line| expected.codes.contains(&line.2);
    let places: BTreeSet<&Line> = lines.keys().filter(named).chain(expected.credits.keys()).collect();
    for line in places {
        let turnover = lines.get(line).copied().unwrap_or_default();
        let expected = expected.credits.get(line).copied().unwrap_or(0);
        report.compare("ledger.agreements", told(line), turnover.credits - turnover.debits, expected);
    }
}

/// The trial balance that the bank shows is the one that entries make, and balances.
fn trial(books: &Books, lines: &BTreeMap<Line, Turnover>, report: &mut Report) {
    let mut claimed: BTreeMap<Line, Turnover> = BTreeMap::new();
    let mut sums: BTreeMap<(&Place, Currency), i128> = BTreeMap::new();
    for claim in &books.trial {
        let line = (claim.place.clone(), claim.currency, claim.code.clone());
        let turnover = Turnover { debits: claim.debits_minor, credits: claim.credits_minor };
        if claimed.insert(line.clone(), turnover).is_some() {
            report.tell("trial.twice", told(&line), "the line is there twice");
        }
        *sums.entry((&claim.place, claim.currency)).or_default() += claim.debits_minor - claim.credits_minor;
    }
    for ((place, currency), off) in sums {
        let at = format!("{}/{} {currency}", place.member, place.branch);
        report.compare("trial.unbalanced", at, off, 0);
    }
    for line in lines.keys().chain(claimed.keys()).collect::<BTreeSet<_>>() {
        let of = |from: &BTreeMap<Line, Turnover>| from.get(line).copied().unwrap_or_default();
        let (there_is, expected) = (of(&claimed), of(lines));
        report.compare("trial.debits", told(line), there_is.debits, expected.debits);
        report.compare("trial.credits", told(line), there_is.credits, expected.credits);
    }
}

fn told((place, currency, code): &Line) -> String {
    format!("{}/{} {currency} {code}", place.member, place.branch)
}
