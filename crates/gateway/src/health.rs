//! Health of instances: asked actively by one prober, observed passively by every request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::{
    PASSIVE_FAILURES, PASSIVE_OUT, PROBE_DOWN_EVERY, PROBE_EVERY, PROBE_FAILURES, PROBE_MAX,
};

/// Health of one instance, shared by all threads. Read on every request, written only when something changes.
#[derive(Debug)]
pub(crate) struct Health {
    born: Instant,
    /// Found down by the prober.
    down: AtomicBool,
    probe_failures: AtomicU32,
    exchange_failures: AtomicU32,
    /// Until when it is out after failed exchanges, in ms since `born`; 0 if it is not.
    out_until_ms: AtomicU64,
}

impl Health {
    /// Believed well until known better: after a restart the gateway serves at once.
    fn new() -> Self {
        Self {
            born: Instant::now(),
            down: AtomicBool::new(false),
            probe_failures: AtomicU32::new(0),
            exchange_failures: AtomicU32::new(0),
            out_until_ms: AtomicU64::new(0),
        }
    }

    /// True if a request may be sent there. Of an instance that was out one request may find out whether it is
    /// back; the others wait for its luck.
    pub(crate) fn admits(&self) -> bool {
        if self.down.load(Ordering::Relaxed) {
            return false;
        }
        let until = self.out_until_ms.load(Ordering::Relaxed);
        until == 0 || self.half_open(until, self.born.elapsed())
    }

    fn half_open(&self, until: u64, now: Duration) -> bool {
        let now = millis(now);
        let next = now + millis(PASSIVE_OUT);
        now >= until
            && self.out_until_ms.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// True if the prober found it down.
    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// True if requests are sent there without second thoughts.
    pub(crate) fn is_well(&self) -> bool {
        !self.is_down() && self.out_until_ms.load(Ordering::Relaxed) == 0
    }

    /// An exchange went well.
    pub(crate) fn exchanged(&self) {
        if self.exchange_failures.load(Ordering::Relaxed) != 0 {
            self.exchange_failures.store(0, Ordering::Relaxed);
            self.out_until_ms.store(0, Ordering::Relaxed);
        }
    }

    /// An exchange failed below HTTP: refused, reset, silent.
    pub(crate) fn failed(&self) {
        if self.exchange_failures.fetch_add(1, Ordering::Relaxed) + 1 >= PASSIVE_FAILURES {
            let until = millis(self.born.elapsed() + PASSIVE_OUT);
            self.out_until_ms.store(until, Ordering::Relaxed);
        }
    }

    /// The prober's finding. True if it changes something.
    fn probed(&self, well: bool) -> bool {
        if well {
            self.probe_failures.store(0, Ordering::Relaxed);
            self.exchanged();
            return self.down.swap(false, Ordering::Relaxed);
        }
        let failures = self.probe_failures.fetch_add(1, Ordering::Relaxed) + 1;
        failures >= PROBE_FAILURES && !self.down.swap(true, Ordering::Relaxed)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Health of all instances of this data center.
#[derive(Debug, Default)]
pub(crate) struct HealthBoard {
    instances: Mutex<HashMap<SocketAddr, Arc<Health>>>,
}

impl HealthBoard {
    /// The instance's health; made when first asked for.
    pub(crate) fn of(&self, address: SocketAddr) -> Arc<Health> {
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        instances.entry(address).or_insert_with(|| Arc::new(Health::new())).clone()
    }

    /// All instances.
    pub(crate) fn all(&self) -> Vec<(SocketAddr, Arc<Health>)> {
        let instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = instances.iter().map(|(address, health)| (*address, health.clone())).collect();
        all.sort_by_key(|(address, _)| *address);
        all
    }

    /// Forgets all instances but these. Addresses that are new among them are returned: nobody probes them yet.
    pub(crate) fn keep_only(&self, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        instances.retain(|address, _| addresses.contains(address));
        let mut new = Vec::new();
        for address in addresses {
            instances.entry(*address).or_insert_with(|| {
                new.push(*address);
                Arc::new(Health::new())
            });
        }
        new
    }

    fn contains(&self, address: SocketAddr) -> bool {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&address)
    }
}

/// Asks one instance for its readiness for as long as the board knows it.
pub(crate) async fn probe(board: Arc<HealthBoard>, client: reqwest::Client, address: SocketAddr) {
    let url = format!("https://{address}/readyz");
    while board.contains(address) {
        let health = board.of(address);
        let answer = client.get(&url).timeout(PROBE_MAX).send().await;
        let well = answer.as_ref().is_ok_and(|answer| answer.status().is_success());
        if health.probed(well) {
            tracing::info!(instance = %address, well, "instance changed its readiness");
        }
        let pause = if well { PROBE_EVERY } else { PROBE_DOWN_EVERY };
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_exchanges_take_an_instance_out_and_one_request_finds_out() {
        let health = Health::new();
        health.failed();
        health.failed();
        health.exchanged();
        health.failed();
        health.failed();
        assert!(health.admits(), "failures in a row count");
        health.failed();
        assert!(!health.is_well());
        let until = health.out_until_ms.load(Ordering::Relaxed);
        let later = Duration::from_millis(until);
        assert!(!health.half_open(until, Duration::from_millis(until - 1)));
        assert!(health.half_open(until, later));
        assert!(!health.half_open(until, later), "only one");
        health.exchanged();
        assert!(health.is_well() && health.admits());
    }

    #[test]
    fn two_failed_probes_take_it_down_and_one_good_one_brings_it_back() {
        let health = Health::new();
        assert!(!health.probed(false) && health.admits());
        assert!(health.probed(false) && !health.admits());
        assert!(!health.probed(false));
        assert!(health.probed(true) && health.admits());
    }

    #[test]
    fn the_board_keeps_what_the_table_names() {
        let board = HealthBoard::default();
        let (a, b) = (SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2)));
        assert_eq!(board.keep_only(&[a]), [a]);
        let before = board.of(a);
        assert_eq!(board.keep_only(&[a, b]), [b]);
        assert!(Arc::ptr_eq(&before, &board.of(a)));
        assert_eq!(board.keep_only(&[b]), []);
        assert!(!board.contains(a));
    }
}
