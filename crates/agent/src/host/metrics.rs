//! The agent's figures.

use std::collections::BTreeMap;
use std::sync::Arc;

use dujiang_types::UnitId;
use dujiang_types::report::ReplicaState;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::handle::Handle;
use super::known::Known;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByUnit {
    unit: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStandby {
    unit: String,
    standby: String,
}

/// Counters and gauges, and where they are registered.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) registry: Registry,
    pub(super) reports_sent: Counter,
    pub(super) reports_failed: Counter,
    primary: Family<ByUnit, Gauge>,
    open: Family<ByUnit, Gauge>,
    lag: Family<ByStandby, Gauge>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("dujiang_agent");
        let (reports_sent, reports_failed) = (Counter::default(), Counter::default());
        let (primary, open, lag) = (Family::default(), Family::default(), Family::default());
        registry.register("reports_sent", "Reports taken by the control plane", reports_sent.clone());
        registry.register("reports_failed", "Reports the control plane did not take", reports_failed.clone());
        registry.register("primary", "1 if the replica here is the unit's primary", primary.clone());
        registry.register("open", "1 if the primary here admits clients", open.clone());
        registry.register("standby_lag_bytes", "How far a standby is behind the primary here", lag.clone());
        Self { registry, reports_sent, reports_failed, primary, open, lag }
    }

    /// Sets the gauges from the latest observations.
    pub(super) fn take(&self, handles: &BTreeMap<UnitId, Arc<Handle>>, known: &Known) {
        // A standby that is gone has no lag; the old value must not stay.
        self.lag.clear();
        for (unit, handle) in handles {
            let (report, _) = handle.report(known);
            let (is_primary, is_open, standbys) = match report.state {
                ReplicaState::Primary { open, standbys, .. } => (true, open, standbys),
                _ => (false, false, BTreeMap::new()),
            };
            let unit = unit.to_string();
            self.primary.get_or_create(&ByUnit { unit: unit.clone() }).set(is_primary.into());
            self.open.get_or_create(&ByUnit { unit: unit.clone() }).set(is_open.into());
            for (dc, standby) in standbys {
                let labels = ByStandby { unit: unit.clone(), standby: dc.to_string() };
                self.lag.get_or_create(&labels).set(i64::try_from(standby.lag_bytes).unwrap_or(i64::MAX));
            }
        }
    }
}
