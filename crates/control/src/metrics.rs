//! What the control plane counts, in Prometheus' terms.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use dujiang_types::{Kind, Tri};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::state::Shared;
use crate::status;

/// Labels of a request: bounded, because the route is the pattern that matched and not the path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) method: &'static str,
    pub(crate) route: String,
    pub(crate) status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NameLabels {
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReplicaLabels {
    name: String,
    replica: String,
}

/// Counters that live as long as the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) requests: Family<RequestLabels, Counter>,
    pub(crate) request_seconds: Histogram,
    pub(crate) leases_granted: Counter,
    pub(crate) changes: Counter,
    pub(crate) conflicts: Counter,
    pub(crate) streams: Gauge,
    pub(crate) connections: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            // 0.5 ms to 4 s.
            request_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 14)),
            leases_granted: Counter::default(),
            changes: Counter::default(),
            conflicts: Counter::default(),
            streams: Gauge::default(),
            connections: Gauge::default(),
        }
    }
}

/// The text of `GET /metrics`.
pub(crate) fn render(shared: &Shared) -> Result<String, std::fmt::Error> {
    let metrics = &shared.metrics;
    let mut registry = Registry::with_prefix("dujiang_control");
    registry.register("http_requests", "Requests answered", metrics.requests.clone());
    let seconds = metrics.request_seconds.clone();
    registry.register_with_unit("http_request", "Time to answer", Unit::Seconds, seconds);
    registry.register("leases_granted", "Leases granted to primaries", metrics.leases_granted.clone());
    registry.register("unit_changes", "Changes of units' records decided", metrics.changes.clone());
    registry.register("unit_conflicts", "Decisions someone else was faster than", metrics.conflicts.clone());
    registry.register("watches", "Watches being served", metrics.streams.clone());
    registry.register("connections", "Connections open", metrics.connections.clone());
    observed(&mut registry, shared);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// What is known at this moment, collected when asked for.
fn observed(registry: &mut Registry, shared: &Shared) {
    let epochs: Family<NameLabels, Gauge> = Family::default();
    let serving: Family<NameLabels, Gauge> = Family::default();
    let records = shared.records();
    for (unit, record) in &records.units {
        let labels = NameLabels { name: unit.to_string() };
        epochs.get_or_create(&labels).set(i64::try_from(record.status.epoch.0).unwrap_or(i64::MAX));
        serving.get_or_create(&labels).set(i64::from(!record.status.phase.holds()));
    }
    let ages: Family<NameLabels, Gauge<f64, AtomicU64>> = Family::default();
    for (dc, seen) in &shared.observed().agents {
        ages.get_or_create(&NameLabels { name: dc.to_string() }).set(seen.at.elapsed().as_secs_f64());
    }
    exposures(registry, shared);
    let leads: Gauge = Gauge::default();
    leads.set(i64::from(shared.leader.leads().is_some()));
    registry.register("leads", "1 if this server decides, 0 if it only listens", leads);
    if let Some(store) = &*shared.size.borrow() {
        let gauge = |value: u64| {
            let gauge: Gauge = Gauge::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            gauge
        };
        let (size, quota) = (gauge(store.bytes), gauge(store.quota_bytes));
        registry.register_with_unit("store_size", "Size of the store on disk", Unit::Bytes, size);
        registry.register_with_unit(
            "store_quota",
            "Size at which the store takes no writes",
            Unit::Bytes,
            quota,
        );
        let alarm = gauge(u64::from(store.alarm.is_some()));
        registry.register(
            "store_alarm",
            "1 if the store is about to be, or is, too large to write to",
            alarm,
        );
    }
    let broken: Gauge = Gauge::default();
    broken.set(i64::try_from(records.broken.len()).unwrap_or(i64::MAX));
    registry.register("unit_epoch", "Epoch of each unit", epochs);
    registry.register("unit_serving", "1 if requests of the unit are forwarded, 0 if held", serving);
    registry.register_with_unit("agent_report_age", "Age of each agent's report", Unit::Seconds, ages);
    registry.register("records_unreadable", "Records of the store that cannot be read", broken);
    for kind in Kind::ALL {
        let count = match kind {
            Kind::DataCenter => records.datacenters.len(),
            Kind::Application => records.applications.len(),
            Kind::Unit => records.units.len(),
            Kind::Operation => records.operations.len(),
        };
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        registry.register(kind.plural(), "Resources of this kind", gauge);
    }
}

/// What the loss of each unit's home would cost.
fn exposures(registry: &mut Registry, shared: &Shared) {
    let kept: Family<NameLabels, Gauge> = Family::default();
    let automatic: Family<NameLabels, Gauge> = Family::default();
    let at_risk: Family<NameLabels, Gauge> = Family::default();
    let bytes: Family<ReplicaLabels, Gauge> = Family::default();
    let seconds: Family<ReplicaLabels, Gauge<f64, AtomicU64>> = Family::default();
    let transfers: Family<ReplicaLabels, Gauge> = Family::default();
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    for (unit, exposure) in status::exposures(shared) {
        let labels = NameLabels { name: unit.to_string() };
        kept.get_or_create(&labels).set(i64::from(exposure.durability.kept == Tri::True));
        automatic.get_or_create(&labels).set(i64::from(exposure.automatic));
        if let Some(risk) = exposure.at_risk_bytes {
            at_risk.get_or_create(&labels).set(whole(risk));
        }
        for (dc, behind) in exposure.behind {
            let labels = ReplicaLabels { name: labels.name.clone(), replica: dc.to_string() };
            bytes.get_or_create(&labels).set(whole(behind.bytes));
            seconds.get_or_create(&labels).set(Duration::from_millis(behind.lag_ms).as_secs_f64());
            if let Some(count) = behind.transfers {
                transfers.get_or_create(&labels).set(whole(count));
            }
        }
    }
    let said = "1 if the sync set holds every other replica, 0 if durability is degraded";
    registry.register("unit_durability_kept", said, kept);
    let said = "1 if a failover now would ask nobody, 0 if it needs an operator";
    registry.register("unit_failover_automatic", said, automatic);
    let said = "Acknowledged bytes of log that only the home may have";
    registry.register_with_unit("unit_at_risk", said, Unit::Bytes, at_risk);
    registry.register_with_unit("replica_behind", "Log a replica has not got", Unit::Bytes, bytes);
    let said = "How long ago the home was where the replica is";
    registry.register_with_unit("replica_behind", said, Unit::Seconds, seconds);
    registry.register("replica_behind_transfers", "Transfers a replica has not got", transfers);
}
