//! What can happen, and the queue it waits in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dujiang_types::api::{AgentReply, AgentReport, PromiseReply, PromiseRequest};
use dujiang_types::report::GatewayReport;
use dujiang_types::unit::Unit;
use dujiang_types::{DcId, Epoch, Revision};
use dujiang_unit::agent::Step;

use crate::faults::Fault;
use crate::place::{At, Dc, Proc};
use crate::postgres::Record;
use crate::trace::Us;

/// What a gateway knows of one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its home.
    pub home: DcId,
    /// Its epoch.
    pub epoch: Epoch,
    /// True if its requests are to be held.
    pub hold: bool,
}

/// How an attempt to write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, and durable.
    Acknowledged,
    /// Certainly nothing was done.
    NothingDone,
    /// Not known.
    Unknown,
}

/// What travels between processes. Any of it may be lost, late, twice, or out of order.
#[derive(Debug, Clone)]
pub enum Message {
    /// Agent to control.
    Report(Box<AgentReport>),
    /// Control to agent: the answer to the report with that session and sequence.
    Reply {
        /// The session answered.
        session: u64,
        /// The report answered.
        sequence: u64,
        /// The answer.
        reply: AgentReply,
    },
    /// Control to agent: the record of a unit.
    Record(Box<Unit>),
    /// Agent to control: send me every record.
    List(Dc),
    /// Agent to agent.
    Ask {
        /// Which round of asking, to match the answers.
        round: u64,
        /// Who asks.
        from: Dc,
        /// The request.
        ask: PromiseRequest,
    },
    /// Agent to agent: the answer.
    Answer {
        /// The round answered.
        round: u64,
        /// Who answers.
        from: Dc,
        /// The unit.
        unit: usize,
        /// The answer.
        reply: PromiseReply,
    },
    /// Control to gateway: the routing table.
    Table {
        /// Its version.
        version: Revision,
        /// Routes by unit.
        routes: Vec<Route>,
    },
    /// Gateway to control.
    GatewayReport {
        /// Which gateway.
        dc: Dc,
        /// What it sees.
        report: GatewayReport,
    },
    /// Client to gateway.
    Request {
        /// The attempt.
        attempt: u64,
    },
    /// Gateway to the gateway of the unit's home.
    Forward {
        /// The attempt.
        attempt: u64,
        /// The epoch it was routed under.
        epoch: Epoch,
    },
    /// Home's application to the gateway the client spoke to.
    Result {
        /// The attempt.
        attempt: u64,
        /// Its outcome.
        outcome: Outcome,
    },
    /// Gateway to client.
    Response {
        /// The attempt.
        attempt: u64,
        /// Its outcome.
        outcome: Outcome,
    },
}

/// Something that happens at a moment.
#[derive(Debug, Clone)]
#[expect(
    missing_docs,
    reason = "the fields repeat the same few words: at which replica, over which connection"
)]
pub enum Event {
    /// A message arrives.
    Deliver(Message),

    /// The disk has taken the log up to there.
    Flushed { at: At, upto: usize },
    /// A walsender reads the configuration file.
    SenderReload { at: At, standby: Dc, conn: u64 },
    /// The checkpointer reads it: whether anybody waits at all.
    CheckpointerReload { at: At },
    /// The startup process of a standby reads it: whom to follow.
    StartupReload { at: At },
    /// Replay moves on.
    Replay { at: At },
    /// The server has replayed what is on disk and answers.
    Started { at: At },
    /// The promotion is done.
    Promoted { at: At, timeline: u32 },
    /// The server looks after its connections.
    Housekeeping { at: At },
    /// An orderly stop looks whether it is complete.
    Stopping { at: At, since: Us },
    /// Log arrives at a standby: records from that index on.
    Log { at: At, conn: u64, first: usize, records: Vec<Record> },
    /// A standby's confirmation arrives at its upstream.
    Confirm { at: At, standby: Dc, conn: u64, flushed: usize },
    /// The connection's other end is gone.
    Hangup { at: At, conn: u64 },
    /// A session carries out an attempt.
    Execute { at: At, attempt: u64, epoch: Epoch },

    /// An agent looks at a replica and decides.
    Look { dc: Dc, unit: usize },
    /// An agent looks at a replica once more.
    Glance { at: At },
    /// An agent carries out what it decided.
    Act { at: At, step: Step, record: Box<Unit> },
    /// The agent's state file is on disk.
    Noted { at: At, epoch: Epoch, then: Then },
    /// Work in the background ends.
    WorkDone { at: At, source: Dc },
    /// An agent's regular report and renewal.
    Renew { dc: Dc },
    /// An agent reports because something changed.
    SendReport { dc: Dc },
    /// An agent lists all records, in case a watch event was lost.
    Resync { dc: Dc },
    /// An agent told a guard until when its database may run.
    Arm { at: At, epoch: Epoch, until_ms: u64 },
    /// A guard's timer fires.
    Deadline { at: At },
    /// A guard's kill has taken effect on the database.
    Killed { at: At, life: u64 },

    /// The control plane looks at every unit.
    ControlTick,
    /// The control plane's write reaches the store.
    Write(Box<crate::control::Intent>),
    /// The control plane publishes the routing table.
    Publish,

    /// A gateway reports.
    GatewayTick { dc: Dc },
    /// A gateway tries a request that could not be done before.
    Retry { dc: Dc, attempt: u64 },
    /// A gateway gives up waiting for an answer.
    Overdue { dc: Dc, attempt: u64 },
    /// A client makes its next request.
    Think { client: usize },
    /// A client gives up waiting.
    Impatient { client: usize, attempt: u64 },

    /// Something breaks or is mended.
    Fault(Fault),
    /// A supervisor starts a process again.
    Restart(Proc),
    /// An operator asks for a move.
    AskMove,
    /// Everything is mended; from now on the world must recover.
    Heal,
}

/// What an agent goes on with once its state file is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// Nothing: only the epoch was to be noted.
    Nothing,
    /// Carry the action out.
    Act(Step),
    /// Promote: `primary_epoch` is on disk now.
    Promote(Step),
    /// Write the epoch into the fence: the promotion is done.
    Fence,
    /// Start the work that destroys the data: `primary_epoch` is cleared on disk now.
    Work(Step),
}

/// An event with its time, its place in the order, and whom it happens to.
#[derive(Debug)]
pub struct Scheduled {
    /// When.
    pub time: Us,
    /// Order among events of the same time: the order of scheduling.
    pub number: u64,
    /// To whom it happens.
    pub owner: Proc,
    /// The owner's life it belongs to; an event of an earlier life is void. `None`: whichever life there is.
    pub life: Option<u64>,
    /// What happens.
    pub event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time, self.number).cmp(&(other.time, other.number))
    }
}

/// Events to come, earliest first, ties in the order of scheduling.
#[derive(Debug, Default)]
pub struct Queue {
    heap: BinaryHeap<Reverse<Scheduled>>,
    count: u64,
}

impl Queue {
    /// Adds an event.
    pub fn push(&mut self, time: Us, owner: Proc, life: Option<u64>, event: Event) {
        self.count += 1;
        self.heap.push(Reverse(Scheduled { time, number: self.count, owner, life, event }));
    }

    /// The next event.
    pub fn pop(&mut self) -> Option<Scheduled> {
        self.heap.pop().map(|Reverse(event)| event)
    }
}
