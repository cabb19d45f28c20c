//! How much is answered to whom: a server of small questions and larger answers must not be a weapon.
//!
//! The sender of a datagram can be forged, so answers go to networks that have asked for nothing. Each network gets so
//! many a second; beyond them one in two is told, in no more bytes than it asked with, to come by TCP, where senders
//! cannot be forged, and the others get nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Answers a second and network: a resolver asks once in a time to live for each name.
const PER_SECOND: u32 = 200;
/// Answers a network that was silent may get at once: two seconds' worth.
const BURST: u32 = 400;
/// Networks kept in mind. One that is not shares the allowance of all that are not.
const NETWORKS_MAX: usize = 10_000;

/// What to do with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send it.
    Send,
    /// Send that it is to be asked for by TCP.
    Truncate,
    /// Send nothing.
    Drop,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u32,
    filled: Instant,
    over: u32,
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self { left: BURST, filled: now, over: 0 }
    }

    fn take(&mut self, now: Instant) -> Verdict {
        let passed = now.saturating_duration_since(self.filled);
        let more = u32::try_from(passed.as_millis() * u128::from(PER_SECOND) / 1_000).unwrap_or(BURST);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.filled = now;
        }
        if self.left > 0 {
            self.left -= 1;
            return Verdict::Send;
        }
        self.over = self.over.wrapping_add(1);
        if self.over.is_multiple_of(2) { Verdict::Truncate } else { Verdict::Drop }
    }
}

/// The allowances of all networks.
#[derive(Debug)]
pub(super) struct Limit {
    networks: HashMap<IpAddr, Bucket>,
    others: Bucket,
}

impl Limit {
    pub(super) fn new(now: Instant) -> Self {
        Self { networks: HashMap::new(), others: Bucket::full(now) }
    }

    /// Takes one answer from the asker's allowance.
    pub(super) fn take(&mut self, asker: IpAddr, now: Instant) -> Verdict {
        let network = network_of(asker);
        if !self.networks.contains_key(&network) && self.networks.len() >= NETWORKS_MAX {
            // Whoever was silent for so long has a full allowance, known or not.
            let whole = Duration::from_secs(u64::from(BURST / PER_SECOND));
            self.networks.retain(|_, bucket| now.saturating_duration_since(bucket.filled) < whole);
            if self.networks.len() >= NETWORKS_MAX {
                return self.others.take(now);
            }
        }
        self.networks.entry(network).or_insert_with(|| Bucket::full(now)).take(now)
    }
}

/// The /24, or /56 of IPv6, somebody has an address in.
fn network_of(asker: IpAddr) -> IpAddr {
    match asker.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) & 0xffff_ff00).into()),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << 72)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_gets_its_allowance_and_others_theirs() {
        let start = Instant::now();
        let mut limit = Limit::new(start);
        let near = |n: u8| IpAddr::from([192, 0, 2, n]);
        for n in 0..BURST {
            assert_eq!(limit.take(near((n % 250) as u8), start), Verdict::Send, "{n}");
        }
        assert_eq!(limit.take(near(1), start), Verdict::Drop);
        assert_eq!(limit.take(near(2), start), Verdict::Truncate, "one in two may come by TCP");
        assert_eq!(limit.take(near(3), start), Verdict::Drop);
        assert_eq!(limit.take(IpAddr::from([198, 51, 100, 1]), start), Verdict::Send);
        let later = start + Duration::from_millis(100);
        let sent = (0..100).filter(|_| limit.take(near(4), later) == Verdict::Send).count();
        assert_eq!(sent, PER_SECOND as usize / 10);
    }

    #[test]
    fn many_networks_do_not_fill_the_memory() {
        let start = Instant::now();
        let mut limit = Limit::new(start);
        let mut sent = 0_u32;
        for n in 0..20_000_u32 {
            let asker = IpAddr::V4((0x0100_0000 + n * 256).into());
            sent += u32::from(limit.take(asker, start) == Verdict::Send);
        }
        assert_eq!(limit.networks.len(), NETWORKS_MAX);
        assert_eq!(sent, u32::try_from(NETWORKS_MAX).unwrap() + BURST);
        let later = start + Duration::from_secs(10);
        assert_eq!(limit.take(IpAddr::from([192, 0, 2, 1]), later), Verdict::Send);
        assert!(limit.networks.len() < NETWORKS_MAX, "those that are silent are forgotten");
    }
}
