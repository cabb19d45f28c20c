//! Gateways with the application instances behind them: hold or forward, by a table that may be old.

use std::collections::{BTreeMap, VecDeque};

use dujiang_types::report::GatewayReport;
use dujiang_types::{Epoch, Revision};

use crate::event::{Event, Message, Outcome, Route};
use crate::network::Channel;
use crate::place::{At, Dc, Proc, dc_index, unit_id};
use crate::trace::{MS, SECOND, Us};
use crate::world::World;

/// A request that cannot be done now is kept at most that long.
const HOLD_MAX: Us = 8 * SECOND;
/// Requests held per unit.
const HELD_MAX: usize = 64;
/// Pause before a request for which nothing was done is tried again.
const RETRY: Us = 60 * MS;
/// An answer from an application is waited for that long.
const ANSWER_MAX: Us = 5 * SECOND;
/// How often a gateway reports.
const REPORT: Us = SECOND;

/// One gateway.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// On disk: version of the table and the table.
    table: (Revision, Vec<Route>),
    /// Requests forwarded and not yet answered, with their unit.
    in_flight: BTreeMap<u64, usize>,
    /// Requests waiting, by unit.
    held: Vec<VecDeque<u64>>,
    /// When each request known here arrived.
    arrived: BTreeMap<u64, Us>,
}

impl Gateway {
    /// A gateway without a table.
    pub fn new(units: usize) -> Self {
        Self {
            table: (Revision(0), Vec::new()),
            in_flight: BTreeMap::new(),
            held: vec![VecDeque::new(); units],
            arrived: BTreeMap::new(),
        }
    }
}

impl World {
    /// Starts a gateway; all it knows is the table on its disk.
    pub fn start_gateway(&mut self, dc: Dc) {
        self.processes.start(Proc::Gateway(dc));
        let table = self.gateways[dc].table.clone();
        self.gateways[dc] = Gateway { table, ..Gateway::new(self.unit_count) };
        self.after(MS, Proc::Gateway(dc), Event::GatewayTick { dc });
    }

    pub(crate) fn gateway_tick(&mut self, dc: Dc) {
        self.gateway_reports(dc);
        self.after(REPORT, Proc::Gateway(dc), Event::GatewayTick { dc });
    }

    fn gateway_reports(&mut self, dc: Dc) {
        let gateway = &self.gateways[dc];
        let mut report = GatewayReport {
            table: gateway.table.0,
            in_flight: BTreeMap::new(),
            held: BTreeMap::new(),
            turns: BTreeMap::new(),
        };
        for (unit, route) in gateway.table.1.iter().enumerate() {
            if route.hold {
                let in_flight = gateway.in_flight.values().filter(|u| **u == unit).count() as u64;
                report.in_flight.insert(unit_id(unit), in_flight);
                report.held.insert(unit_id(unit), gateway.held[unit].len() as u64);
            }
        }
        self.send(Channel::GatewayControl, dc, Proc::Control, &Message::GatewayReport { dc, report });
    }

    pub(crate) fn gateway_table(&mut self, dc: Dc, version: Revision, routes: Vec<Route>) {
        if version <= self.gateways[dc].table.0 {
            return;
        }
        self.gateways[dc].table = (version, routes);
        for unit in 0..self.unit_count {
            for attempt in std::mem::take(&mut self.gateways[dc].held[unit]) {
                self.gateway_route(dc, attempt);
            }
        }
        self.gateway_reports(dc);
    }

    pub(crate) fn gateway_request(&mut self, dc: Dc, attempt: u64) {
        // A request that arrives twice is one request: it came over one connection.
        if self.gateways[dc].arrived.contains_key(&attempt) {
            return;
        }
        let now = self.now;
        self.gateways[dc].arrived.insert(attempt, now);
        self.gateway_route(dc, attempt);
    }

    fn gateway_route(&mut self, dc: Dc, attempt: u64) {
        let unit = self.clients.attempt(attempt).unit;
        let now = self.now;
        let gateway = &mut self.gateways[dc];
        let waited = now.saturating_sub(gateway.arrived.get(&attempt).copied().unwrap_or(0));
        if waited > HOLD_MAX {
            self.gateway_responds(dc, attempt, Outcome::NothingDone);
            return;
        }
        let Some(route) = gateway.table.1.get(unit).cloned() else {
            self.after(RETRY, Proc::Gateway(dc), Event::Retry { dc, attempt });
            return;
        };
        if route.hold {
            if gateway.held[unit].len() >= HELD_MAX {
                self.gateway_responds(dc, attempt, Outcome::NothingDone);
            } else {
                gateway.held[unit].push_back(attempt);
                let patience = HOLD_MAX - waited + MS;
                self.after(patience, Proc::Gateway(dc), Event::Retry { dc, attempt });
            }
            return;
        }
        let Some(home) = dc_index(&route.home) else { return };
        gateway.in_flight.insert(attempt, unit);
        self.after(ANSWER_MAX, Proc::Gateway(dc), Event::Overdue { dc, attempt });
        let forward = Message::Forward { attempt, epoch: route.epoch };
        if home == dc {
            self.application(dc, attempt, route.epoch);
        } else {
            self.send_once(dc, Proc::Gateway(home), &forward);
        }
    }

    /// Sends over a connection: it arrives once or not at all.
    fn send_once(&mut self, from: Dc, to: Proc, message: &Message) {
        let copies = self.net.copies(&mut self.rng, Channel::Traffic, from, crate::world::site_of(to));
        if let Some(delay) = copies[0] {
            self.queue.push(self.now + delay, to, None, Event::Deliver(message.clone()));
        }
    }

    pub(crate) fn gateway_retry(&mut self, dc: Dc, attempt: u64) {
        let unit = self.clients.attempt(attempt).unit;
        let gateway = &mut self.gateways[dc];
        gateway.held[unit].retain(|held| *held != attempt);
        let open = gateway.arrived.contains_key(&attempt) && !gateway.in_flight.contains_key(&attempt);
        if open {
            self.gateway_route(dc, attempt);
        }
    }

    pub(crate) fn gateway_overdue(&mut self, dc: Dc, attempt: u64) {
        if self.gateways[dc].in_flight.contains_key(&attempt) {
            self.gateway_result(dc, attempt, Outcome::Unknown);
        }
    }

    pub(crate) fn gateway_result(&mut self, dc: Dc, attempt: u64, outcome: Outcome) {
        let gateway = &mut self.gateways[dc];
        let Some(unit) = gateway.in_flight.remove(&attempt) else { return };
        let holding = gateway.table.1.get(unit).is_some_and(|route| route.hold);
        let drained = holding && !gateway.in_flight.values().any(|u| *u == unit);
        if drained {
            self.gateway_reports(dc);
        }
        if outcome == Outcome::NothingDone {
            self.after(RETRY, Proc::Gateway(dc), Event::Retry { dc, attempt });
        } else {
            self.gateway_responds(dc, attempt, outcome);
        }
    }

    fn gateway_responds(&mut self, dc: Dc, attempt: u64, outcome: Outcome) {
        self.gateways[dc].arrived.remove(&attempt);
        let client = Proc::Client(self.clients.attempt(attempt).client);
        self.send(Channel::Traffic, dc, client, &Message::Response { attempt, outcome });
    }

    // ---- the application beside it ----------------------------------------------------------------------------

    /// An application instance takes a request to its local database under the epoch it was routed with.
    pub(crate) fn application(&mut self, dc: Dc, attempt: u64, epoch: Epoch) {
        let at = At { dc, unit: self.clients.attempt(attempt).unit };
        if !self.processes.alive(Proc::Postgres(at)) {
            self.application_answers(dc, attempt, Outcome::NothingDone);
            return;
        }
        let takes = self.between(200, 5 * MS);
        self.after(takes, Proc::Postgres(at), Event::Execute { at, attempt, epoch });
    }

    /// The application tells the gateway the request came from.
    pub(crate) fn application_answers(&mut self, dc: Dc, attempt: u64, outcome: Outcome) {
        let gateway = self.clients.attempt(attempt).gateway;
        if !self.power[dc] {
            return;
        }
        let result = Message::Result { attempt, outcome };
        if gateway == dc {
            let delay = self.between(50, 500);
            self.queue.push(self.now + delay, Proc::Gateway(dc), None, Event::Deliver(result));
        } else {
            self.send_once(dc, Proc::Gateway(gateway), &result);
        }
    }
}
