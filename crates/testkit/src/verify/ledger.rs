//! Rules within one unit: double entry, balances, limits, reversals, places.

use std::collections::BTreeMap;

use dujiang_routing::AccountNumber;
use uuid::Uuid;

use crate::verify::books::{Account, Books, CASH, Entry, IN_TRANSIT, Posting, is_house};
use crate::verify::{Findings, Rule};

/// Checks one unit's books.
pub(super) fn check(books: &Books, findings: &mut Findings) {
    for (id, posting) in &books.postings {
        check_balanced(books, *id, posting, findings);
        check_shape(books, *id, posting, findings);
    }
    check_strays(books, findings);
    check_balances(books, findings);
    check_conserved(books, findings);
    check_reversals(books, findings);
    check_places(books, findings);
}

fn check_balanced(books: &Books, id: Uuid, posting: &Posting, findings: &mut Findings) {
    let mut sums = BTreeMap::<&str, i128>::new();
    for entry in &posting.entries {
        *sums.entry(&entry.currency).or_default() += i128::from(entry.amount_minor);
    }
    for (currency, sum) in sums.into_iter().filter(|(_, sum)| *sum != 0) {
        let what = format!("the entries of posting {id} sum to {sum} {currency}");
        findings.add(Rule::PostingUnbalanced, Some(&books.unit), what);
    }
}

/// What the entries of a posting have to be: account and sign of the amount, payer first. `None` if that cannot
/// be told from this unit alone.
fn shape<'a>(books: &'a Books, posting: &'a Posting) -> Option<Vec<(&'a str, i128)>> {
    let amount = i128::from(posting.amount_minor);
    let own = posting.account.as_str();
    let payee = posting.to_account.as_deref().unwrap_or("");
    Some(match posting.kind.as_str() {
        "deposit" => vec![(CASH, -amount), (own, amount)],
        "transfer" => vec![(own, -amount), (payee, amount)],
        "transfer_out" => vec![(own, -amount), (IN_TRANSIT, amount)],
        "reversal" => {
            let reversed = books.postings.get(&posting.reverses?)?;
            reversed.entries.iter().map(|e| (e.account.as_str(), -i128::from(e.amount_minor))).collect()
        }
        "transit_return" => {
            let reversed = books.postings.get(&posting.reverses?)?;
            vec![(IN_TRANSIT, -amount), (reversed.account.as_str(), amount)]
        }
        "transfer_in" => {
            // Whom the money is for is checked against the other side.
            let payee = posting.entries.iter().find(|entry| entry.account != IN_TRANSIT)?;
            vec![(IN_TRANSIT, -amount), (payee.account.as_str(), amount)]
        }
        _ => return None,
    })
}

fn check_shape(books: &Books, id: Uuid, posting: &Posting, findings: &mut Findings) {
    let mut has: Vec<_> =
        posting.entries.iter().map(|e| (e.account.as_str(), i128::from(e.amount_minor))).collect();
    has.sort_unstable();
    let wants = shape(books, posting).map(|mut wants| {
        wants.sort_unstable();
        wants
    });
    let one_currency = posting.entries.iter().all(|entry| entry.currency == posting.currency);
    if wants.as_ref() == Some(&has) && one_currency && posting.amount_minor > 0 {
        return;
    }
    let wants =
        wants.map_or_else(|| "a known kind and what it refers to".to_owned(), |wants| format!("{wants:?}"));
    let what = format!(
        "posting {id}, {} of {} {}, has the entries {has:?} and should have {wants}",
        posting.kind, posting.amount_minor, posting.currency
    );
    findings.add(Rule::PostingMalformed, Some(&books.unit), what);
}

fn check_strays(books: &Books, findings: &mut Findings) {
    for (id, entry) in &books.strays {
        let what = format!("entry {} belongs to posting {id}, which does not exist", entry.entry);
        findings.add(Rule::EntryStray, Some(&books.unit), what);
    }
    for (id, entry) in books.entries().filter(|(_, entry)| !is_house(&entry.account)) {
        let problem = match books.accounts.get(&entry.account) {
            None => "which does not exist",
            Some(account) if account.currency != entry.currency => "which is in another currency",
            Some(_) => continue,
        };
        let what =
            format!("entry {} of posting {id} is on account {}, {problem}", entry.entry, entry.account);
        findings.add(Rule::EntryStray, Some(&books.unit), what);
    }
}

fn check_balances(books: &Books, findings: &mut Findings) {
    let mut entries = BTreeMap::<&str, Vec<&Entry>>::new();
    for (_, entry) in books.entries() {
        entries.entry(&entry.account).or_default().push(entry);
    }
    for (number, account) in &books.accounts {
        let mut entries = entries.remove(number.as_str()).unwrap_or_default();
        entries.sort_unstable_by_key(|entry| entry.entry);
        check_account(books, number, account, &entries, findings);
    }
}

fn check_account(
    books: &Books,
    number: &str,
    account: &Account,
    entries: &[&Entry],
    findings: &mut Findings,
) {
    let mut sum = 0_i128;
    let mut lowest = i128::from(account.balance_minor);
    let mut slipped = None;
    for entry in entries {
        sum += i128::from(entry.amount_minor);
        lowest = lowest.min(sum);
        if entry.balance_after.map(i128::from) != Some(sum) {
            slipped.get_or_insert((entry.entry, entry.balance_after, sum));
        }
    }
    if sum != i128::from(account.balance_minor) {
        let what = format!("account {number} says {} and its entries sum to {sum}", account.balance_minor);
        findings.add(Rule::BalanceWrong, Some(&books.unit), what);
    }
    if let Some((entry, says, sum)) = slipped {
        let what =
            format!("account {number} says {says:?} after entry {entry} and its entries sum to {sum} there");
        findings.add(Rule::BalanceWrong, Some(&books.unit), what);
    }
    if lowest < i128::from(account.limit_minor) {
        let what = format!("account {number} was at {lowest} with a limit of {}", account.limit_minor);
        findings.add(Rule::BelowLimit, Some(&books.unit), what);
    }
}

/// Balances of customers and house accounts together, taken from where they are kept, not from postings.
fn check_conserved(books: &Books, findings: &mut Findings) {
    let mut sums = BTreeMap::<&str, i128>::new();
    for account in books.accounts.values() {
        *sums.entry(&account.currency).or_default() += i128::from(account.balance_minor);
    }
    for (_, entry) in books.entries().filter(|(_, entry)| is_house(&entry.account)) {
        *sums.entry(&entry.currency).or_default() += i128::from(entry.amount_minor);
    }
    for (currency, sum) in sums.into_iter().filter(|(_, sum)| *sum != 0) {
        let what = format!("balances and house accounts sum to {sum} {currency}");
        findings.add(Rule::MoneyNotConserved, Some(&books.unit), what);
    }
}

fn check_reversals(books: &Books, findings: &mut Findings) {
    let mut reversals = BTreeMap::<Uuid, u32>::new();
    for (id, posting) in &books.postings {
        let Some(reversed) = posting.reverses else { continue };
        *reversals.entry(reversed).or_default() += 1;
        if !books.postings.contains_key(&reversed) {
            let what = format!("posting {id} reverses {reversed}, which does not exist");
            findings.add(Rule::ReversalWrong, Some(&books.unit), what);
        }
    }
    for (id, posting) in &books.postings {
        let times = reversals.get(id).copied().unwrap_or_default();
        let says = posting.state == "reversed";
        if times > 1 || (times == 1) != says {
            let what = format!("posting {id} is {} and was reversed {times} times", posting.state);
            findings.add(Rule::ReversalWrong, Some(&books.unit), what);
        }
    }
}

fn check_places(books: &Books, findings: &mut Findings) {
    for (number, account) in &books.accounts {
        let slot = number.parse::<AccountNumber>().map(AccountNumber::slot);
        let problem = match slot {
            Err(error) => error.to_string(),
            Ok(slot) if !books.slots.iter().any(|range| range.contains(slot)) => {
                format!("its slot {} belongs to another unit", slot.get())
            }
            Ok(_) if !books.customers.contains(&account.customer) => {
                format!("its customer {} does not exist", account.customer)
            }
            Ok(_) => continue,
        };
        findings.add(Rule::Misplaced, Some(&books.unit), format!("account {number}: {problem}"));
    }
}
