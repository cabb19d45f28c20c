//! Prometheus metrics: the threads' counts, added up when asked for.

use std::fmt;
use std::sync::Arc;

use dujiang_routing::Compiled;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::health::HealthBoard;
use crate::shard::{Count, Counts, Durations, LATENCY_BOUNDS, Shard, ThreadCounts};

/// Reads the counts when metrics are asked for.
pub(crate) struct Metrics {
    pub(crate) counts: Arc<Counts>,
    pub(crate) health: Arc<HealthBoard>,
    pub(crate) table: watch::Receiver<Option<Arc<Compiled>>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// All metrics as text.
pub(crate) fn text(metrics: &Arc<Metrics>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("dujiang_gateway");
    registry.register_collector(Box::new(metrics.clone()));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

/// Label of what belongs to no unit.
const NO_UNIT: &str = "none";
const ANSWER_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

type PerUnit = Vec<(String, Vec<Arc<Shard>>)>;

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut units: PerUnit =
            self.counts.all().into_iter().map(|(unit, counts)| (unit.to_string(), counts.shards)).collect();
        let unrouted = self.counts.threads.iter().map(|thread| thread.unrouted.clone()).collect();
        units.push((NO_UNIT.to_owned(), unrouted));
        requests(&mut encoder, &units)?;
        durations(&mut encoder, &units, "request_seconds", "Time to the head of the answer.", |s| {
            &s.latency
        })?;
        durations(&mut encoder, &units, "hold_seconds", "Time requests waited for their unit.", |s| {
            &s.holds
        })?;
        self.holding(&mut encoder, &units)?;
        self.threads(&mut encoder)?;
        self.instances(&mut encoder)
    }
}

fn sum(shards: &[Arc<Shard>], of: impl Fn(&Shard) -> u64) -> u64 {
    shards.iter().map(|shard| of(shard)).sum()
}

fn requests(encoder: &mut DescriptorEncoder, units: &PerUnit) -> fmt::Result {
    let help = "Requests answered, by unit and class of status.";
    let mut family = encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
    for (unit, shards) in units {
        for (class, name) in ANSWER_CLASSES.iter().enumerate() {
            let total = sum(shards, |shard| shard.answers[class].get());
            if total > 0 {
                let labels = [("unit", unit.as_str()), ("status", name)];
                ConstCounter::new(total).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    let help = "Repetitions of requests.";
    let mut family = encoder.encode_descriptor("retries", help, None, MetricType::Counter)?;
    for (unit, shards) in units {
        let labels = [("unit", unit.as_str())];
        ConstCounter::new(sum(shards, |shard| shard.retries.get())).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn durations(
    encoder: &mut DescriptorEncoder,
    units: &PerUnit,
    name: &str,
    help: &str,
    of: fn(&Shard) -> &Durations,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (unit, shards) in units {
        let buckets: Vec<(f64, u64)> = LATENCY_BOUNDS
            .iter()
            .enumerate()
            .map(|(bucket, bound)| (*bound, sum(shards, |shard| of(shard).buckets[bucket].get())))
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        if count > 0 {
            let labels = [("unit", unit.as_str())];
            let seconds = seconds(sum(shards, |shard| of(shard).sum_us.get()));
            family
                .encode_family(&labels)?
                .encode_histogram::<[(&str, &str); 0]>(seconds, count, &buckets, None)?;
        }
    }
    Ok(())
}

/// Microseconds as seconds. Sums beyond 2^53 µs (285 years) lose accuracy.
#[expect(clippy::cast_precision_loss, reason = "a metric of 285 years may be off by a microsecond")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

impl Metrics {
    fn holding(&self, encoder: &mut DescriptorEncoder, units: &PerUnit) -> fmt::Result {
        let help = "Longest time a request waited for its unit.";
        let mut family = encoder.encode_descriptor("hold_longest_seconds", help, None, MetricType::Gauge)?;
        for (unit, shards) in units {
            let longest = shards.iter().map(|shard| shard.hold_longest_us.get()).max().unwrap_or_default();
            ConstGauge::new(seconds(longest)).encode(family.encode_family(&[("unit", unit.as_str())])?)?;
        }
        let all = self.counts.all();
        let help = "Requests waiting for their unit.";
        let mut family = encoder.encode_descriptor("held_requests", help, None, MetricType::Gauge)?;
        for (unit, counts) in &all {
            ConstGauge::new(counts.waiting.get())
                .encode(family.encode_family(&[("unit", unit.as_str())])?)?;
        }
        let help = "Requests forwarded and not yet answered.";
        let mut family = encoder.encode_descriptor("in_flight_requests", help, None, MetricType::Gauge)?;
        for (unit, counts) in &all {
            ConstGauge::new(counts.in_flight()).encode(family.encode_family(&[("unit", unit.as_str())])?)?;
        }
        Ok(())
    }

    fn threads(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        type Of = fn(&ThreadCounts) -> &Count;
        let counters: [(&str, &str, Of); 7] = [
            ("client_connections_accepted", "Client connections accepted.", |t| &t.connections_total),
            ("client_connections_expired", "Client connections ended for being slow or idle.", |t| {
                &t.expired
            }),
            ("malformed_requests", "Connections ended because what came was not HTTP.", |t| &t.malformed),
            ("upstream_connections_opened", "Connections to instances and gateways.", |t| &t.upstream_opened),
            ("upstream_connections_reused", "Requests sent over a kept connection.", |t| &t.upstream_reused),
            ("access_log_dropped", "Entries the access log had no room for.", |t| &t.log_dropped),
            ("answers_dropped", "Answers their journal had no room for.", |t| &t.answers_dropped),
        ];
        let total = |of: Of| self.counts.threads.iter().map(|thread| of(thread).get()).sum::<u64>();
        for (name, help, of) in counters {
            let counter = ConstCounter::new(total(of));
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let gauges: [(&str, &str, u64); 4] = [
            ("client_connections", "Client connections open.", total(|thread| &thread.connections)),
            (
                "upstream_connections_idle",
                "Kept connections to instances and gateways.",
                total(|t| &t.pool_idle),
            ),
            (
                "table_version",
                "Version of the routing table every thread follows.",
                self.counts.adopted_by_all().0,
            ),
            ("table_version_received", "Version of the routing table last received.", self.received()),
        ];
        for (name, help, value) in gauges {
            ConstGauge::new(value).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Gauge,
            )?)?;
        }
        Ok(())
    }

    fn received(&self) -> u64 {
        self.table.borrow().as_ref().map(|table| table.version.0).unwrap_or_default()
    }

    fn instances(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let help = "1 if requests are sent to the instance.";
        let mut family = encoder.encode_descriptor("instance_ready", help, None, MetricType::Gauge)?;
        for (address, health) in self.health.all() {
            let labels = [("instance", address.to_string())];
            ConstGauge::new(u64::from(health.is_well())).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
