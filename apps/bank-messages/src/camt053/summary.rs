//! `TxsSummry`: numbers and sums of a statement's entries.

use super::Entry;
use crate::common::Build;
use crate::value::ExactDecimal;
use crate::xml::Element;

/// What entries come to: all of them, those in and those out.
pub(super) struct Summary {
    all: Tally,
    credits: Tally,
    debits: Tally,
    /// Credits less debits.
    net: Option<ExactDecimal>,
}

/// How many entries, and the sum of their amounts without signs; none beyond what a decimal here can hold.
#[derive(Clone, Copy)]
struct Tally {
    count: u64,
    sum: Option<ExactDecimal>,
}

impl Summary {
    pub(super) fn of(entries: &[Entry]) -> Self {
        Self {
            all: Tally::of(entries.iter()),
            credits: Tally::of(entries.iter().filter(|entry| entry.amount.minor >= 0)),
            debits: Tally::of(entries.iter().filter(|entry| entry.amount.minor < 0)),
            net: add(entries.iter().map(|entry| ExactDecimal::of(entry.amount))),
        }
    }

    pub(super) fn write(&self) -> Element {
        Build::new("TxsSummry")
            .push(self.all.write("TtlNtries"))
            .push(self.credits.write("TtlCdtNtries"))
            .push(self.debits.write("TtlDbtNtries"))
            .done()
    }

    /// True if all that a statement says about its entries is so; numbers count, not how they are written.
    pub(super) fn agrees(&self, said: &Element) -> bool {
        let tallies =
            [("TtlNtries", self.all), ("TtlCdtNtries", self.credits), ("TtlDbtNtries", self.debits)];
        let tallies = tallies.iter().all(|(name, tally)| said.child(name).is_none_or(|s| tally.agrees(s)));
        let net = said.child("TtlNtries").and_then(|all| all.child("TtlNetNtry"));
        tallies && net.is_none_or(|net| self.agrees_net(net))
    }

    fn agrees_net(&self, said: &Element) -> bool {
        let Some(amount) = said.text_at(&["Amt"]).and_then(ExactDecimal::parse) else { return false };
        let debit = said.text_at(&["CdtDbtInd"]) == Some("DBIT");
        self.net.is_some_and(|net| {
            net.magnitude() == amount && (net == ExactDecimal::ZERO || debit == (net.magnitude() != net))
        })
    }
}

impl Tally {
    fn of<'a>(entries: impl Iterator<Item = &'a Entry> + Clone) -> Self {
        let sum = add(entries.clone().map(|entry| ExactDecimal::of(entry.amount).magnitude()));
        Self { count: entries.count() as u64, sum }
    }

    fn write(self, name: &str) -> Element {
        let sum = self.sum.filter(|sum| sum.is_decimal_number());
        Build::new(name).text("NbOfNtries", self.count).maybe_text("Sum", sum).done()
    }

    fn agrees(self, said: &Element) -> bool {
        let count = said.text_at(&["NbOfNtries"]).is_none_or(|text| text.parse() == Ok(self.count));
        let sum = said.text_at(&["Sum"]).is_none_or(|text| {
            let said = ExactDecimal::parse(text);
            said.is_some() && said == self.sum
        });
        count && sum
    }
}

fn add(mut amounts: impl Iterator<Item = ExactDecimal>) -> Option<ExactDecimal> {
    amounts.try_fold(ExactDecimal::ZERO, ExactDecimal::checked_add)
}
