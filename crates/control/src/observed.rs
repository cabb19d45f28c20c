//! What agents and gateways said last. Kept in memory only: after a restart everything is unknown until it is
//! reported again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use dujiang_types::api::AgentReport;
use dujiang_types::report::GatewayReport;
use dujiang_types::{DcId, UnitId};
use dujiang_unit::exposure::Progress;
use jiff::Timestamp;

use crate::evidence::seen::Moments;
use crate::records::Records;

/// Sessions of an agent that are known to be over. A report of one of them that arrives late must not undo what
/// the agent's present session said; more than a few restarts within a report's life are not to be expected.
const SESSIONS_OVER_MAX: usize = 8;

/// The latest of everything.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) agents: BTreeMap<DcId, SeenAgent>,
    pub(crate) gateways: BTreeMap<DcId, SeenGateway>,
    /// How far homes and replicas have come.
    progress: BTreeMap<UnitId, Progress>,
    /// For the evidence; nothing is decided by it.
    pub(crate) moments: Moments,
}

/// An agent's latest report.
#[derive(Debug)]
pub(crate) struct SeenAgent {
    pub(crate) report: AgentReport,
    pub(crate) at: Instant,
    sessions_over: VecDeque<String>,
}

/// A gateway's latest report.
#[derive(Debug)]
pub(crate) struct SeenGateway {
    pub(crate) report: GatewayReport,
    pub(crate) at: Instant,
}

impl Observed {
    /// Takes over a report, unless something later of the same agent is known: false then.
    pub(crate) fn agent(&mut self, report: AgentReport, at: Instant) -> bool {
        let Some(seen) = self.agents.get_mut(&report.dc) else {
            let sessions_over = VecDeque::new();
            self.moments.take(None, &report, Timestamp::now());
            self.agents.insert(report.dc.clone(), SeenAgent { report, at, sessions_over });
            return true;
        };
        let same = seen.report.session == report.session;
        if same && report.sequence <= seen.report.sequence || seen.sessions_over.contains(&report.session) {
            return false;
        }
        if !same {
            seen.sessions_over.push_back(seen.report.session.clone());
            if seen.sessions_over.len() > SESSIONS_OVER_MAX {
                seen.sessions_over.pop_front();
            }
        }
        self.moments.take(Some(&seen.report), &report, Timestamp::now());
        (seen.report, seen.at) = (report, at);
        true
    }

    /// How far a unit's home and replicas have come.
    pub(crate) fn progress(&self, unit: &UnitId) -> Progress {
        self.progress.get(unit).cloned().unwrap_or_default()
    }

    /// Takes over what an agent's latest report says about that, of units that exist.
    pub(crate) fn note_progress(&mut self, dc: &DcId, records: &Records, now_ms: u64) {
        let Some(seen) = self.agents.get(dc) else { return };
        for (unit, report) in seen.report.units.iter().filter(|(unit, _)| records.units.contains_key(*unit)) {
            let meter = seen.report.meters.get(unit).copied().unwrap_or_default();
            self.progress.entry(unit.clone()).or_default().observe(dc, report, &meter, now_ms);
        }
    }

    /// Versions of what runs where, as agents say.
    pub(crate) fn versions(&self) -> BTreeMap<String, String> {
        let of = |(dc, seen): (&DcId, &SeenAgent)| {
            let dc = dc.clone();
            let versions = seen.report.versions.clone();
            versions.into_iter().map(move |(what, version)| (format!("{what}@{dc}"), version))
        };
        self.agents.iter().flat_map(of).collect()
    }

    /// Takes over a gateway's report.
    pub(crate) fn gateway(&mut self, dc: DcId, report: GatewayReport, at: Instant) {
        self.gateways.insert(dc, SeenGateway { report, at });
    }

    /// Forgets data centers and units that are gone.
    pub(crate) fn forget_all_but(&mut self, records: &Records) {
        self.progress.retain(|unit, _| records.units.contains_key(unit));
        self.agents.retain(|dc, _| records.datacenters.contains_key(dc));
        self.gateways.retain(|dc, _| records.datacenters.contains_key(dc));
        self.moments.retain(|unit| records.units.contains_key(unit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::report;

    #[test]
    fn what_arrives_late_does_not_undo_what_is_known() {
        let mut observed = Observed::default();
        let mut take = |session, sequence| observed.agent(report(session, sequence), Instant::now());
        assert!(take("s1", 1));
        assert!(take("s1", 3));
        assert!(!take("s1", 2), "overtaken");
        assert!(!take("s1", 3), "sent twice");
        assert!(take("s2", 1), "the agent was restarted");
        assert!(!take("s1", 9), "the session before is over");
        assert!(take("s2", 2));
    }
}
