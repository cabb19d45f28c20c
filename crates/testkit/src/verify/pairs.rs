//! Rules between units: every transfer has its two sides, and what is in transit is what lies between them.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::verify::books::{Books, IN_TRANSIT, Posting};
use crate::verify::{Findings, Rule};

/// What became of a transfer after it left its unit.
#[derive(Default)]
struct Ends<'a> {
    arrived: Vec<(&'a Books, Uuid, &'a Posting)>,
    returned: u32,
}

/// Checks what the units owe each other.
pub(super) fn check(all: &[Books], findings: &mut Findings) {
    let mut ends = BTreeMap::<Uuid, Ends<'_>>::new();
    for books in all {
        for (id, posting) in &books.postings {
            match (posting.kind.as_str(), posting.peer, posting.reverses) {
                ("transfer_in", Some(peer), _) => {
                    ends.entry(peer).or_default().arrived.push((books, *id, posting));
                }
                ("transfer_in", None, _) => {
                    let what = format!("posting {id} is a transfer_in that belongs to no transfer_out");
                    findings.add(Rule::Invented, Some(&books.unit), what);
                }
                ("transit_return", _, Some(out)) => ends.entry(out).or_default().returned += 1,
                _ => {}
            }
        }
    }
    let mut outstanding = BTreeMap::<&str, i128>::new();
    for books in all {
        let leaving = books.postings.iter().filter(|(_, posting)| posting.kind == "transfer_out");
        for (id, out) in leaving {
            let ends = ends.remove(id).unwrap_or_default();
            if ends.arrived.is_empty() && ends.returned == 0 {
                *outstanding.entry(&out.currency).or_default() += i128::from(out.amount_minor);
            }
            check_out(books, *id, out, &ends, findings);
        }
    }
    for (peer, ends) in ends {
        for (books, id, _) in ends.arrived {
            let what = format!("posting {id} is a transfer_in from {peer}, which left no unit");
            findings.add(Rule::Invented, Some(&books.unit), what);
        }
    }
    check_in_transit(all, outstanding, findings);
}

fn check_out(books: &Books, id: Uuid, out: &Posting, ends: &Ends<'_>, findings: &mut Findings) {
    let unit = Some(&books.unit);
    let arrivals = ends.arrived.len();
    let settled = match out.state.as_str() {
        "completed" => arrivals == 1 && ends.returned == 0,
        "reversed" => arrivals == 0 && ends.returned == 1,
        _ => arrivals <= 1 && ends.returned == 0,
    };
    if !settled {
        let returned = ends.returned;
        let what = format!(
            "transfer {id} is {}, arrived {arrivals} times and came back {returned} times",
            out.state
        );
        findings.add(Rule::PairBroken, unit, what);
    } else if out.state == "in_transit" {
        findings.add(Rule::NotSettled, unit, format!("transfer {id} is still in transit"));
    }
    for (other, arrival, posting) in &ends.arrived {
        let payee = posting.entries.iter().find(|entry| entry.account != IN_TRANSIT);
        let same = payee.is_some_and(|entry| {
            Some(&entry.account) == out.to_account.as_ref()
                && entry.amount_minor == out.amount_minor
                && entry.currency == out.currency
        });
        if !same {
            let what = format!("transfer {id} arrived as {arrival} with another account, amount or currency");
            findings.add(Rule::PairBroken, Some(&other.unit), what);
        }
    }
    let message = books.messages.get(&id).map(|message| message.state.as_str());
    match (message, out.state.as_str()) {
        (Some("pending"), "in_transit") | (Some("done"), "completed" | "reversed") => {}
        (message, state) => {
            let message = message.unwrap_or("missing");
            let what = format!("transfer {id} is {state} and its message is {message}");
            findings.add(Rule::PairBroken, unit, what);
        }
    }
}

/// The house accounts of all units against the transfers that lie between them.
fn check_in_transit(all: &[Books], mut outstanding: BTreeMap<&str, i128>, findings: &mut Findings) {
    let mut held = BTreeMap::<&str, i128>::new();
    for (_, entry) in all.iter().flat_map(Books::entries).filter(|(_, entry)| entry.account == IN_TRANSIT) {
        *held.entry(&entry.currency).or_default() += i128::from(entry.amount_minor);
    }
    for (currency, held) in held {
        let owed = outstanding.remove(currency).unwrap_or_default();
        if held != owed {
            let what = format!("{held} {currency} are in transit and transfers over {owed} have not arrived");
            findings.add(Rule::InTransitWrong, None, what);
        }
    }
    for (currency, owed) in outstanding {
        let what = format!("nothing is in transit in {currency} and transfers over {owed} have not arrived");
        findings.add(Rule::InTransitWrong, None, what);
    }
}
