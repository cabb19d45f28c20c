//! Prometheus metrics of an application.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// From a read on loopback to the longest commit.
const SECONDS_BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];

/// Labels of requests. Bounded: `route` is a template, not a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) method: String,
    pub(crate) route: String,
    pub(crate) status: u16,
}

/// Labels of messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DeliveryLabels {
    pub(crate) unit: String,
    pub(crate) outcome: &'static str,
}

/// Labels of what there is one of per unit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct UnitLabels {
    pub(crate) unit: String,
}

/// What is counted.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: Family<RequestLabels, Counter>,
    pub(crate) seconds: Histogram,
    pub(crate) repeats: Counter,
    pub(crate) unknown: Counter,
    pub(crate) replays: Counter,
    pub(crate) deliveries: Family<DeliveryLabels, Counter>,
    pub(crate) pending: Family<UnitLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("dujiang_app");
        let requests = Family::default();
        let seconds = Histogram::new(SECONDS_BUCKETS);
        let repeats = Counter::default();
        let unknown = Counter::default();
        let replays = Counter::default();
        let deliveries = Family::default();
        let pending = Family::default();
        registry.register("requests", "Requests answered", requests.clone());
        registry.register_with_unit("request_duration", "Time to answer", Unit::Seconds, seconds.clone());
        registry.register("transaction_repeats", "Transactions repeated after a collision", repeats.clone());
        registry.register("outcomes_unknown", "Commits whose outcome is not known", unknown.clone());
        registry.register("replays", "Writes answered with their first outcome", replays.clone());
        registry.register("deliveries", "Messages to other units by outcome", deliveries.clone());
        registry.register("messages_in_flight", "Messages claimed and not settled", pending.clone());
        Self { registry, requests, seconds, repeats, unknown, replays, deliveries, pending }
    }
}

impl Metrics {
    /// The text a Prometheus server scrapes.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
