//! The journal against the books: what was acknowledged is there once, what was refused is not, and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dujiang_routing::AccountNumber;
use dujiang_types::Money;
use uuid::Uuid;

use crate::journal::{Journal, Operation, Outcome, Receipt};
use crate::request::Request;
use crate::verify::books::{Books, Posting};
use crate::verify::{Findings, JournalReport, Rule};

/// Customers of the payment `dujiang up` makes to show that it serves; no load's journal knows of it. For all other
/// rules they are customers like any.
const FIRST_LIGHT: &str = "first-light";

/// A posting and the books it stands in.
type Found<'a> = (&'a Books, Uuid, &'a Posting);

/// Postings of all units by the key of the request that ordered them.
fn by_key(all: &[Books]) -> HashMap<&str, Vec<Found<'_>>> {
    let mut keys = HashMap::<&str, Vec<Found<'_>>>::new();
    for books in all {
        for (id, posting) in &books.postings {
            if let Some(key) = &posting.key {
                keys.entry(key).or_default().push((books, *id, posting));
            }
        }
    }
    keys
}

/// One key, one posting: holds with or without a journal.
pub(super) fn check_keys(all: &[Books], findings: &mut Findings) {
    for (key, found) in by_key(all).into_iter().filter(|(_, found)| found.len() > 1) {
        let where_ = found.iter().map(|(books, id, _)| format!("{id} in {}", books.unit)).collect::<Vec<_>>();
        let what = format!("key {key} has {} postings: {}", found.len(), where_.join(", "));
        findings.add(Rule::Doubled, Some(&found[0].0.unit), what);
    }
}

/// Compares a journal with the books of all units.
pub(super) fn check(
    all: &[Books],
    journal: &Journal,
    lost: &BTreeSet<&str>,
    whole_life: bool,
    findings: &mut Findings,
) -> JournalReport {
    let keys = by_key(all);
    let mut report = JournalReport { loads: journal.loads, ..JournalReport::default() };
    let mut receipts = HashMap::<String, &str>::new();
    for (key, operation) in &journal.operations {
        if operation.request.moves_money() {
            let found = keys.get(key.as_str()).map_or(&[][..], Vec::as_slice);
            if found.is_empty()
                && lost.contains(key.as_str())
                && matches!(operation.outcome(), Outcome::Acknowledged(_))
            {
                // Written down, and therefore not silently lost.
                report.operations += 1;
                report.lost += 1;
                continue;
            }
            check_payment(all, key, operation, found, &mut report, findings);
            if let Outcome::Acknowledged(Receipt { posting: Some(posting), .. }) = operation.outcome()
                && let Some(other) = receipts.insert(posting.clone(), key)
            {
                let what = format!("{key} and {other} were both acknowledged with posting {posting}");
                findings.add(Rule::Doubled, Some(&operation.unit), what);
            }
        }
    }
    check_accounts(all, journal, whole_life, findings);
    if whole_life {
        check_nothing_else(all, journal, findings);
    }
    report
}

fn check_payment(
    all: &[Books],
    key: &str,
    operation: &Operation,
    found: &[Found<'_>],
    report: &mut JournalReport,
    findings: &mut Findings,
) {
    let unit = Some(&operation.unit);
    report.operations += 1;
    match (operation.outcome(), found) {
        (Outcome::Acknowledged(receipt), []) => {
            let posting = receipt.posting.unwrap_or_default();
            let what = format!("{key} was acknowledged with posting {posting}: {:?}", operation.request);
            findings.add(Rule::AcknowledgedMissing, unit, what);
        }
        (Outcome::Acknowledged(receipt), [(_, id, posting), ..]) => {
            report.acknowledged += 1;
            report.returned += u64::from(posting.kind == "transfer_out" && posting.state == "reversed");
            if receipt.posting != Some(id.to_string()) {
                let what = format!("{key} was acknowledged with posting {:?} and is {id}", receipt.posting);
                findings.add(Rule::Altered, unit, what);
            }
        }
        (Outcome::Refused { code }, [(_, id, _), ..]) => {
            findings.add(
                Rule::RefusedPresent,
                unit,
                format!("{key} was refused ({code}) and is posting {id}"),
            );
        }
        (Outcome::Refused { .. }, []) => report.refused += 1,
        (Outcome::Unknown { .. }, []) => report.unknown_not_done += 1,
        (Outcome::Unknown { .. }, _) => report.unknown_done += 1,
    }
    for (books, id, posting) in found {
        if let Err(difference) = compare(all, operation, posting) {
            let what =
                format!("{key} asked for {:?} and posting {id} differs: {difference}", operation.request);
            findings.add(Rule::Altered, Some(&books.unit), what);
        }
        if books.unit != operation.unit {
            let what = format!("{key} was for {} and posting {id} is here", operation.unit);
            findings.add(Rule::Misplaced, Some(&books.unit), what);
        }
    }
}

/// A posting against what was asked for.
fn compare(all: &[Books], operation: &Operation, posting: &Posting) -> Result<(), String> {
    let differs = |what: &str, wants: &str, has: &str| {
        if wants == has { Ok(()) } else { Err(format!("{what} {has} instead of {wants}")) }
    };
    let amount = |amount: &Money| {
        differs("amount", &amount.minor.to_string(), &posting.amount_minor.to_string())?;
        differs("currency", amount.currency.code(), &posting.currency)
    };
    match &operation.request {
        Request::Deposit { account, amount: wants } => {
            differs("kind", "deposit", &posting.kind)?;
            differs("account", account, &posting.account)?;
            amount(wants)
        }
        Request::Transfer { from, to, amount: wants } => {
            let kind = if owner(all, from) == owner(all, to) { "transfer" } else { "transfer_out" };
            differs("kind", kind, &posting.kind)?;
            differs("payer", from, &posting.account)?;
            differs("payee", to, posting.to_account.as_deref().unwrap_or("nobody"))?;
            amount(wants)
        }
        Request::Reversal { posting: wants, .. } => {
            differs("kind", "reversal", &posting.kind)?;
            let has = posting.reverses.map(|id| id.to_string()).unwrap_or_default();
            differs("reversed posting", wants, &has)
        }
        _ => Ok(()),
    }
}

/// Index of the unit that owns an account's slot.
fn owner(all: &[Books], account: &str) -> Option<usize> {
    let slot = account.parse::<AccountNumber>().ok()?.slot();
    all.iter().position(|books| books.slots.iter().any(|range| range.contains(slot)))
}

/// Customers and accounts that were acknowledged exist; over a whole life no others do.
fn check_accounts(all: &[Books], journal: &Journal, whole_life: bool, findings: &mut Findings) {
    let mut customers = BTreeSet::<&str>::new();
    // By customer: account openings that may have been carried out.
    let mut openings = BTreeMap::<&str, usize>::new();
    for (key, operation) in &journal.operations {
        let outcome = operation.outcome();
        let refused = matches!(outcome, Outcome::Refused { .. });
        match &operation.request {
            Request::OpenCustomer { customer, .. } if !refused => {
                customers.insert(customer);
                let exists = all.iter().any(|books| books.customers.contains(customer));
                if matches!(outcome, Outcome::Acknowledged(_)) && !exists {
                    let what = format!("{key}: customer {customer} was acknowledged");
                    findings.add(Rule::AcknowledgedMissing, Some(&operation.unit), what);
                }
            }
            Request::OpenAccount { customer, .. } if !refused => {
                *openings.entry(customer).or_default() += 1;
                if let Outcome::Acknowledged(receipt) = outcome {
                    check_account(all, key, operation, &receipt, findings);
                }
            }
            _ => {}
        }
    }
    if !whole_life {
        return;
    }
    for books in all {
        let strangers = books.customers.iter().filter(|customer| !customers.contains(customer.as_str()));
        for customer in strangers.filter(|customer| !customer.starts_with(FIRST_LIGHT)) {
            findings.add(Rule::NotInJournal, Some(&books.unit), format!("customer {customer}"));
        }
        for (number, account) in &books.accounts {
            if account.customer.starts_with(FIRST_LIGHT) {
                continue;
            }
            match openings.get_mut(account.customer.as_str()) {
                Some(left) if *left > 0 => *left -= 1,
                _ => findings.add(Rule::NotInJournal, Some(&books.unit), format!("account {number}")),
            }
        }
    }
}

fn check_account(
    all: &[Books],
    key: &str,
    operation: &Operation,
    receipt: &Receipt,
    findings: &mut Findings,
) {
    let Request::OpenAccount { customer, currency, limit_minor } = &operation.request else { return };
    let number = receipt.account.clone().unwrap_or_default();
    let Some(account) = all.iter().find_map(|books| books.accounts.get(&number)) else {
        let what = format!("{key}: account {number} was acknowledged");
        return findings.add(Rule::AcknowledgedMissing, Some(&operation.unit), what);
    };
    let same = account.customer == *customer
        && account.currency == currency.code()
        && account.limit_minor == *limit_minor;
    if !same {
        let what = format!("{key}: account {number} differs in customer, currency or limit");
        findings.add(Rule::Altered, Some(&operation.unit), what);
    }
}

/// Over a whole life every posting has its operation, directly or through the transfer it belongs to.
fn check_nothing_else(all: &[Books], journal: &Journal, findings: &mut Findings) {
    for books in all {
        for (id, posting) in &books.postings {
            let known = match (&posting.key, posting.kind.as_str()) {
                (Some(key), _) if journal.operations.contains_key(key) => true,
                _ if is_first_light(books, posting) => true,
                // Their other sides have been checked one by one.
                (None, "transfer_in" | "transit_return") => true,
                _ => false,
            };
            if !known {
                let what = format!(
                    "posting {id}, {} over {} {}",
                    posting.kind, posting.amount_minor, posting.currency
                );
                findings.add(Rule::NotInJournal, Some(&books.unit), what);
            }
        }
    }
}

fn is_first_light(books: &Books, posting: &Posting) -> bool {
    books.accounts.get(&posting.account).is_some_and(|account| account.customer.starts_with(FIRST_LIGHT))
}
