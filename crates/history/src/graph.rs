//! Who has to come before whom, and why.

use crate::direct::Evidence;
use crate::transaction::{Outcome, Seconds, Step, Transaction};

/// Why one transaction comes before another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// *ww*: it appended `before` to the list, and the other one `then`, which comes later.
    Appended { list: u64, before: u64, then: u64 },
    /// *wr*: the other one saw what it had appended.
    Seen { list: u64, element: u64 },
    /// *rw*: it did not see what the other one appended.
    Missed { list: u64, element: u64 },
    /// *time*: a step on the way from one that ended to one that began later.
    Time,
}

/// An edge to another node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edge {
    pub(crate) to: usize,
    pub(crate) why: Why,
}

/// Dependencies between transactions. The first nodes are the transactions; those after them are moments at which one
/// ended, in order: a transaction leads to the moment of its end, every moment to the next one, and the last moment
/// before a transaction began to that transaction. So "ended before that began" takes few edges, and not one for each
/// of all pairs.
#[derive(Debug)]
pub(crate) struct Graph {
    /// By node.
    pub(crate) edges: Vec<Vec<Edge>>,
    /// How many of the nodes are transactions.
    pub(crate) transactions: usize,
}

impl Graph {
    pub(crate) fn of(history: &[Transaction], evidence: &Evidence) -> Self {
        let mut graph = Self { edges: vec![Vec::new(); history.len()], transactions: history.len() };
        let unordered = graph.appends(history, evidence);
        graph.reads(evidence, &unordered);
        graph.time(history, evidence);
        graph
    }

    fn add(&mut self, from: usize, to: usize, why: Why) {
        if from != to {
            self.edges[from].push(Edge { to, why });
        }
    }

    /// Adds *ww* edges; gives the elements that certainly were appended and that no read has in its list's order.
    fn appends(&mut self, history: &[Transaction], evidence: &Evidence) -> Vec<(u64, u64, usize)> {
        for (list, order) in &evidence.orders {
            let happened = order.iter().filter_map(|element| {
                let writer = evidence.writers.get(&(*list, *element)).copied()?;
                evidence.happened[writer].then_some((*element, writer))
            });
            let happened: Vec<_> = happened.collect();
            for pair in happened.windows(2) {
                let ((before, first), (then, second)) = (pair[0], pair[1]);
                self.add(first, second, Why::Appended { list: *list, before, then });
            }
        }
        let mut unordered = Vec::new();
        for (number, transaction) in history.iter().enumerate().filter(|(n, _)| evidence.happened[*n]) {
            for step in &transaction.steps {
                let Step::Append { list, element } = *step else { continue };
                let order = evidence.orders.get(&list).map_or(&[][..], Vec::as_slice);
                if order.contains(&element) {
                    continue;
                }
                unordered.push((list, element, number));
                let last = order.iter().rev().find_map(|before| {
                    let writer = evidence.writers.get(&(list, *before)).copied()?;
                    evidence.happened[writer].then_some((*before, writer))
                });
                if let Some((before, writer)) = last {
                    self.add(writer, number, Why::Appended { list, before, then: element });
                }
            }
        }
        unordered
    }

    /// Adds *wr* and *rw* edges.
    fn reads(&mut self, evidence: &Evidence, unordered: &[(u64, u64, usize)]) {
        for read in &evidence.reads {
            let (list, reader) = (read.list, read.reader);
            let order = &evidence.orders[&list];
            let writer_of = |element: &u64| {
                let writer = evidence.writers.get(&(list, *element)).copied()?;
                (writer != reader && evidence.happened[writer]).then_some((*element, writer))
            };
            if let Some((element, writer)) = order[..read.len].iter().rev().find_map(writer_of) {
                self.add(writer, reader, Why::Seen { list, element });
            }
            if let Some((element, writer)) = order[read.len..].iter().find_map(writer_of) {
                self.add(reader, writer, Why::Missed { list, element });
            } else {
                for (_, element, writer) in unordered.iter().filter(|(of, ..)| *of == list) {
                    self.add(reader, *writer, Why::Missed { list, element: *element });
                }
            }
        }
    }

    /// Adds *time* edges.
    fn time(&mut self, history: &[Transaction], evidence: &Evidence) {
        let mut ends: Vec<(u64, usize)> = (history.iter().enumerate())
            .filter(|(_, transaction)| transaction.outcome == Outcome::Done)
            .map(|(number, transaction)| (transaction.ended_us, number))
            .collect();
        ends.sort_unstable();
        let first = self.edges.len();
        self.edges.resize(first + ends.len(), Vec::new());
        for (place, (_, number)) in ends.iter().enumerate() {
            self.add(*number, first + place, Why::Time);
            if place + 1 < ends.len() {
                self.add(first + place, first + place + 1, Why::Time);
            }
        }
        for (number, transaction) in history.iter().enumerate().filter(|(n, _)| evidence.happened[*n]) {
            let before = ends.partition_point(|(ended_us, _)| *ended_us < transaction.began_us);
            if before > 0 {
                self.add(first + before - 1, number, Why::Time);
            }
        }
    }
}

/// The sentence that says why one comes before the other.
pub(crate) fn sentence(history: &[Transaction], from: usize, why: Why, to: usize) -> String {
    let (a, b) = (&history[from], &history[to]);
    let (one, other) = (&a.name, &b.name);
    match why {
        Why::Appended { list, before, then } => {
            format!("{other} appended {then} to list {list} after {before} of {one}")
        }
        Why::Seen { list, element } => format!("{other} saw {element} in list {list}, which {one} appended"),
        Why::Missed { list, element } => {
            format!("{one} did not see {element} in list {list}, which {other} appended")
        }
        Why::Time => {
            let apart = Seconds(b.began_us.saturating_sub(a.ended_us));
            format!("{one} had been acknowledged {apart} before {other} began")
        }
    }
}
