//! Cycles of a graph: strongly connected components, and within each the cycle that is easiest to understand.

use std::collections::VecDeque;

use crate::graph::{Graph, Why};

/// Edges or nodes from which a cycle is looked for within one component. A component that holds one violation of a
/// long history can hold all that came after it; the shortest of so many cycles is short enough to read.
const TRIED_MAX: usize = 500;

/// A step of a cycle between two transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) from: usize,
    pub(crate) why: Why,
    pub(crate) to: usize,
}

/// What may be part of a cycle.
#[derive(Clone, Copy)]
pub(crate) struct Allowed<'a> {
    /// Transactions that are left out.
    pub(crate) without: &'a [bool],
    /// With *wr* edges?
    pub(crate) seen: bool,
    /// With *rw* edges?
    pub(crate) missed: bool,
    /// With *time* edges?
    pub(crate) time: bool,
}

impl Allowed<'_> {
    fn edge(self, why: Why) -> bool {
        match why {
            Why::Appended { .. } => true,
            Why::Seen { .. } => self.seen,
            Why::Missed { .. } => self.missed,
            Why::Time => self.time,
        }
    }

    fn node(self, node: usize) -> bool {
        !self.without.get(node).copied().unwrap_or(false)
    }
}

/// Components of more than one node, by Tarjan's algorithm. It keeps its own stack: a history is long.
pub(crate) fn components(graph: &Graph, allowed: Allowed<'_>) -> Vec<Vec<usize>> {
    const UNSEEN: usize = usize::MAX;
    let count = graph.edges.len();
    let (mut index, mut low) = (vec![UNSEEN; count], vec![0; count]);
    let (mut open, mut on_stack) = (Vec::new(), vec![false; count]);
    let (mut next, mut found) = (0, Vec::new());
    for root in (0..count).filter(|node| allowed.node(*node)) {
        if index[root] != UNSEEN {
            continue;
        }
        // Nodes being looked at, each with the number of its edges that have been.
        let mut path = vec![(root, 0)];
        while let Some((node, edge)) = path.pop() {
            if edge == 0 {
                (index[node], low[node]) = (next, next);
                next += 1;
                open.push(node);
                on_stack[node] = true;
            }
            let rest = graph.edges[node].iter().enumerate().skip(edge);
            let mut usable = rest.filter(|(_, edge)| allowed.edge(edge.why) && allowed.node(edge.to));
            let mut descended = false;
            for (at, edge) in usable.by_ref() {
                if index[edge.to] == UNSEEN {
                    path.push((node, at + 1));
                    path.push((edge.to, 0));
                    descended = true;
                    break;
                }
                if on_stack[edge.to] {
                    low[node] = low[node].min(index[edge.to]);
                }
            }
            if descended {
                continue;
            }
            if let Some((parent, _)) = path.last() {
                low[*parent] = low[*parent].min(low[node]);
            }
            if low[node] == index[node] {
                let at = open.iter().rposition(|other| *other == node).unwrap_or_default();
                let component = open.split_off(at);
                for member in &component {
                    on_stack[*member] = false;
                }
                if component.len() > 1 {
                    found.push(component);
                }
            }
        }
    }
    found
}

/// The shortest cycle of a component, if there is one with these edges.
pub(crate) fn shortest(graph: &Graph, component: &[usize], allowed: Allowed<'_>) -> Option<Vec<Link>> {
    let within = Within::new(graph, component);
    let nodes = component.iter().filter(|node| **node < graph.transactions).take(TRIED_MAX);
    let cycles = nodes.filter_map(|node| within.path(*node, *node, allowed));
    cycles.min_by_key(Vec::len)
}

/// The shortest cycle of a component with exactly one *rw* edge, if there is one; `allowed` is what the rest of it
/// may be.
pub(crate) fn shortest_with_one_missed(
    graph: &Graph,
    component: &[usize],
    allowed: Allowed<'_>,
) -> Option<Vec<Link>> {
    let within = Within::new(graph, component);
    let missed = component.iter().flat_map(|from| {
        let edges = graph.edges[*from].iter().filter(|edge| matches!(edge.why, Why::Missed { .. }));
        edges.filter(|edge| within.inside[edge.to]).map(|edge| (*from, *edge))
    });
    let cycles = missed.take(TRIED_MAX).filter_map(|(from, edge)| {
        let mut cycle = vec![Link { from, why: edge.why, to: edge.to }];
        cycle.extend(within.path(edge.to, from, Allowed { missed: false, ..allowed })?);
        Some(cycle)
    });
    cycles.min_by_key(Vec::len)
}

/// A component to find ways in.
struct Within<'a> {
    graph: &'a Graph,
    inside: Vec<bool>,
}

impl<'a> Within<'a> {
    fn new(graph: &'a Graph, component: &[usize]) -> Self {
        let mut inside = vec![false; graph.edges.len()];
        for node in component {
            inside[*node] = true;
        }
        Self { graph, inside }
    }

    /// The way with the fewest links from one transaction to another one, or back to itself. Moments cost nothing.
    fn path(&self, from: usize, to: usize, allowed: Allowed<'_>) -> Option<Vec<Link>> {
        let mut came: Vec<Option<(usize, Why)>> = vec![None; self.graph.edges.len()];
        let mut distance = vec![usize::MAX; self.graph.edges.len()];
        let mut queue = VecDeque::from([(0, from)]);
        let mut arrived = false;
        while let Some((far, node)) = queue.pop_front() {
            if node == to && far > 0 {
                arrived = true;
                break;
            }
            if node != from && far > distance[node] {
                continue;
            }
            for edge in &self.graph.edges[node] {
                if !self.inside[edge.to] || !allowed.edge(edge.why) {
                    continue;
                }
                let free = node >= self.graph.transactions;
                let next = far + usize::from(!free);
                if next < distance[edge.to] {
                    distance[edge.to] = next;
                    came[edge.to] = Some((node, edge.why));
                    if free { queue.push_front((next, edge.to)) } else { queue.push_back((next, edge.to)) }
                }
            }
        }
        arrived.then(|| self.links(from, to, &came))
    }

    /// Goes back from the end, over the moments.
    fn links(&self, from: usize, to: usize, came: &[Option<(usize, Why)>]) -> Vec<Link> {
        let mut links = Vec::new();
        let (mut end, mut node) = (to, to);
        while let Some((before, why)) = came[node] {
            node = before;
            if node < self.graph.transactions {
                links.push(Link { from: node, why, to: end });
                end = node;
                if node == from {
                    break;
                }
            }
        }
        links.reverse();
        links
    }
}
