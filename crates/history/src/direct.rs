//! What shows without a cycle, and the order of every list.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::anomaly::{Anomaly, Finding};
use crate::transaction::{Brief, Outcome, Step, Transaction};

/// A list as a transaction found it, without what it had appended itself.
#[derive(Debug)]
pub(crate) struct Read {
    /// Who read.
    pub(crate) reader: usize,
    /// Which list.
    pub(crate) list: u64,
    /// How many elements of the list's order it saw.
    pub(crate) len: usize,
}

/// What the reads of a history say.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// Who appended an element of a list.
    pub(crate) writers: HashMap<(u64, u64), usize>,
    /// The order of each list: its longest read.
    pub(crate) orders: BTreeMap<u64, Vec<u64>>,
    /// Reads that fit their list's order.
    pub(crate) reads: Vec<Read>,
    /// Transactions that happened for certain: acknowledged ones, and others whose elements were seen.
    pub(crate) happened: Vec<bool>,
}

impl Evidence {
    /// Takes what the reads say, and tells what is wrong with them one by one. `Err` names a list and an element
    /// that two steps append.
    pub(crate) fn of(history: &[Transaction], findings: &mut Vec<Finding>) -> Result<Self, (u64, u64)> {
        let mut evidence = Self { writers: writers(history)?, ..Self::default() };
        // What was read, and how much of it was there before the reader.
        let mut seen: Vec<(usize, u64, &[u64], usize)> = Vec::new();
        for (number, transaction) in history.iter().enumerate() {
            if transaction.outcome == Outcome::Done {
                evidence.reads_of(history, number, &mut seen, findings);
            }
        }
        for &(_, list, elements, _) in &seen {
            let order = evidence.orders.entry(list).or_default();
            if elements.len() > order.len() {
                *order = elements.to_vec();
            }
        }
        for (reader, list, elements, before) in seen.iter().copied() {
            let order = &evidence.orders[&list];
            if order.starts_with(elements) {
                evidence.reads.push(Read { reader, list, len: before });
            } else {
                let longest = seen.iter().find(|(_, of, other, _)| *of == list && *other == &order[..]);
                let other = longest.map_or(reader, |(other, ..)| *other);
                findings.push(Finding {
                    anomaly: Anomaly::IncompatibleOrder,
                    because: vec![format!(
                        "{} read list {list} as {}, and {} as {}: neither continues the other",
                        history[reader].name,
                        Brief(elements),
                        history[other].name,
                        Brief(order)
                    )],
                    transactions: told(history, &[reader, other]),
                });
            }
        }
        let observed: HashSet<usize> = seen
            .iter()
            .flat_map(|(_, list, elements, _)| elements.iter().map(|element| (*list, *element)))
            .filter_map(|element| evidence.writers.get(&element).copied())
            .collect();
        evidence.happened = (history.iter().enumerate())
            .map(|(number, transaction)| match transaction.outcome {
                Outcome::Done => true,
                Outcome::Failed => false,
                Outcome::Unknown => observed.contains(&number),
            })
            .collect();
        Ok(evidence)
    }

    /// Looks at the reads of one transaction.
    fn reads_of<'a>(
        &self,
        history: &'a [Transaction],
        number: usize,
        seen: &mut Vec<(usize, u64, &'a [u64], usize)>,
        findings: &mut Vec<Finding>,
    ) {
        // For each list what was there before this transaction, once it has read it, and what it has appended.
        let mut views: HashMap<u64, (Option<&[u64]>, Vec<u64>)> = HashMap::new();
        for step in &history[number].steps {
            match step {
                Step::Append { list, element } => views.entry(*list).or_default().1.push(*element),
                Step::Read { seen: None, .. } => {}
                Step::Read { list, seen: Some(elements) } => {
                    let (before, own) = views.entry(*list).or_default();
                    let Some(found) = elements
                        .strip_suffix(own.as_slice())
                        .filter(|found| before.is_none_or(|before| before == *found))
                    else {
                        let expected = before.map_or("...".to_owned(), |before| Brief(before).to_string());
                        findings.push(Finding {
                            anomaly: Anomaly::Internal,
                            because: vec![format!(
                                "{} read list {list} as {}, where {expected} followed by its own {} should be",
                                history[number].name,
                                Brief(elements),
                                Brief(own)
                            )],
                            transactions: told(history, &[number]),
                        });
                        continue;
                    };
                    *before = Some(found);
                    self.single_read(history, number, *list, found, findings);
                    seen.push((number, *list, elements, found.len()));
                }
            }
        }
    }

    /// Looks at what one read found.
    fn single_read(
        &self,
        history: &[Transaction],
        reader: usize,
        list: u64,
        found: &[u64],
        findings: &mut Vec<Finding>,
    ) {
        let name = &history[reader].name;
        let mut add = |anomaly, because: String, others: &[usize]| {
            let mut concerned = vec![reader];
            concerned.extend(others);
            findings.push(Finding {
                anomaly,
                because: vec![because],
                transactions: told(history, &concerned),
            });
        };
        let mut met = HashSet::new();
        for element in found {
            let writer = self.writers.get(&(list, *element)).copied();
            if !met.insert(*element) {
                let others: Vec<usize> = writer.into_iter().collect();
                add(Anomaly::Duplicate, format!("{name} found {element} twice in list {list}"), &others);
                continue;
            }
            match writer {
                None => {
                    let because = format!("{name} found {element} in list {list}, which nobody appended");
                    add(Anomaly::Invented, because, &[]);
                }
                Some(writer) if history[writer].outcome == Outcome::Failed => {
                    let other = &history[writer].name;
                    let because = format!(
                        "{name} found {element} in list {list}, which {other} appended, and {other} failed"
                    );
                    add(Anomaly::DirtyRead, because, &[writer]);
                }
                Some(_) => {}
            }
        }
        let Some(end) = found.last() else { return };
        let Some(writer) = self.writers.get(&(list, *end)).copied() else { return };
        if writer != reader && last_append(&history[writer], list) != Some(*end) {
            let other = &history[writer].name;
            let because = format!(
                "{name} found list {list} ending with {end}, to which {other} appended more in one go"
            );
            add(Anomaly::IntermediateRead, because, &[writer]);
        }
    }
}

/// Transactions as their clients saw them, each once.
pub(crate) fn told(history: &[Transaction], numbers: &[usize]) -> Vec<String> {
    let mut met = HashSet::new();
    numbers.iter().filter(|number| met.insert(**number)).map(|number| history[*number].to_string()).collect()
}

fn last_append(transaction: &Transaction, of: u64) -> Option<u64> {
    transaction.steps.iter().rev().find_map(|step| match step {
        Step::Append { list, element } if *list == of => Some(*element),
        _ => None,
    })
}

fn writers(history: &[Transaction]) -> Result<HashMap<(u64, u64), usize>, (u64, u64)> {
    let mut writers = HashMap::new();
    for (number, transaction) in history.iter().enumerate() {
        for step in &transaction.steps {
            if let Step::Append { list, element } = step
                && writers.insert((*list, *element), number).is_some()
            {
                return Err((*list, *element));
            }
        }
    }
    Ok(writers)
}
