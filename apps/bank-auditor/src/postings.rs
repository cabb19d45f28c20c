//! Postings are whole, balances are the sums of entries, and a closed day stays as it was.

use std::collections::{BTreeMap, HashMap, HashSet};

use dujiang_types::Currency;

use crate::Report;
use crate::books::{Account, Books, Entry, Place, Product};

pub(crate) fn audit(books: &Books, report: &mut Report) {
    report.looked_at.entries = books.entries.len() as u64;
    whole_postings(books, report);
    closed_days(books, report);
    let accounts: HashMap<&str, &Account> =
        books.accounts.iter().map(|account| (account.account.as_str(), account)).collect();
    if accounts.len() != books.accounts.len() {
        report.tell("account.twice", "the list of accounts", "an account is in it more than once");
    }
    let mut of_account: HashMap<&str, Vec<&Entry>> = HashMap::new();
    for entry in &books.entries {
        let Some(number) = entry.account.as_deref() else { continue };
        match accounts.get(number) {
            None => report.tell("entry.no_account", number, format!("entry {} names it", entry.number)),
            Some(account) => {
                fits(account, entry, report);
                if entry.code == account.principal {
                    of_account.entry(number).or_default().push(entry);
                }
            }
        }
    }
    balances(books, &accounts, of_account, report);
}

/// Entries of a posting sum to zero in each place and currency, and are of one kind and day.
fn whole_postings(books: &Books, report: &mut Report) {
    let mut numbers = HashSet::with_capacity(books.entries.len());
    let mut postings: HashMap<&str, Vec<&Entry>> = HashMap::new();
    for entry in &books.entries {
        if !numbers.insert(entry.number) {
            report.tell("entry.twice", entry.number, "another entry has this number");
        }
        if entry.credit_minor == 0 {
            report.tell("entry.nothing", entry.number, "an entry of nothing");
        }
        postings.entry(&entry.posting).or_default().push(entry);
    }
    report.looked_at.postings = postings.len() as u64;
    for (posting, entries) in postings {
        let mut sums: BTreeMap<(&Place, Currency), i128> = BTreeMap::new();
        for entry in &entries {
            *sums.entry((&entry.place, entry.currency)).or_default() += i128::from(entry.credit_minor);
        }
        for ((place, currency), sum) in sums {
            if sum != 0 {
                let at = format!("{posting} ({}/{} {currency})", place.member, place.branch);
                report.compare("posting.unbalanced", at, sum, 0);
            }
        }
        let first = entries[0];
        if entries.iter().any(|entry| entry.booked_on != first.booked_on || entry.kind != first.kind) {
            report.tell("posting.torn", posting, "its entries are of different days or kinds");
        }
    }
}

/// Nothing is added to a day after it was closed.
fn closed_days(books: &Books, report: &mut Report) {
    let closings: BTreeMap<_, _> = books.closings.iter().map(|closing| (closing.day, closing)).collect();
    for entry in &books.entries {
        let closing = closings.range(entry.booked_on..).next();
        if let Some((day, closing)) = closing.filter(|(_, closing)| entry.number > closing.last_entry) {
            let detail = format!(
                "booked on {}, which was closed with {day} at entry {}",
                entry.booked_on, closing.last_entry
            );
            report.tell("entry.after_closing", entry.number, detail);
        }
    }
}

/// An entry on an account is in its currency, in its books, and of the time it lived.
fn fits(account: &Account, entry: &Entry, report: &mut Report) {
    if entry.currency != account.currency {
        let detail = format!("{} on an account in {}", entry.currency, account.currency);
        report.tell("entry.currency", entry.number, detail);
    }
    if entry.code == account.principal && entry.place != account.place {
        report.tell("entry.place", entry.number, format!("{} is in other books", account.account));
    }
    if entry.booked_on < account.opened || account.closed.is_some_and(|closed| entry.booked_on > closed) {
        let detail = format!("{} on {} was not open", account.account, entry.booked_on);
        report.tell("entry.not_open", entry.number, detail);
    }
}

/// Balances are what entries come to, never below the limit on the way.
fn balances<'b>(
    books: &'b Books,
    accounts: &HashMap<&str, &Account>,
    mut of_account: HashMap<&'b str, Vec<&'b Entry>>,
    report: &mut Report,
) {
    let mut claimed: HashMap<&str, i64> = HashMap::new();
    for claim in &books.balances {
        if claimed.insert(&claim.account, claim.balance_minor).is_some() {
            report.tell("balance.twice", &claim.account, "it has more than one balance");
        }
        if !accounts.contains_key(claim.account.as_str()) {
            report.tell("balance.no_account", &claim.account, "a balance without account");
        }
    }
    for account in &books.accounts {
        report.looked_at.balances += 1;
        let mut entries = of_account.remove(account.account.as_str()).unwrap_or_default();
        entries.sort_unstable_by_key(|entry| entry.number);
        let limited = !matches!(account.product, Product::Loan(_));
        let mut balance = 0_i128;
        for entry in entries {
            balance += i128::from(entry.credit_minor);
            if limited && entry.credit_minor < 0 && balance < i128::from(account.limit_minor) {
                let detail = format!("{balance} after entry {}, limit {}", entry.number, account.limit_minor);
                report.tell("balance.below_limit", &account.account, detail);
            }
        }
        match claimed.get(account.account.as_str()) {
            None => report.tell("balance.missing", &account.account, "no balance is claimed"),
            Some(there_is) => report.compare("balance", &account.account, i128::from(*there_is), balance),
        }
        if account.closed.is_some() {
            report.compare("balance.closed", &account.account, balance, 0);
        }
    }
}
