//! The wire: takes packets from the network device of each place and hands them to that of another, when they have
//! been on their way for as long as the link between the two takes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_tun::Tun;

use crate::link::{Chance, Lane, Link, destination};

/// Largest packet a device hands out; their MTU is 1500.
const PACKET_BYTES_MAX: usize = 2_048;
/// Packets under way at once; more are dropped, as any network would.
const UNDER_WAY_MAX: usize = 16_384;

/// What all links do now; shared by the wire and whoever steers it.
#[derive(Debug, Clone)]
pub struct Links {
    lanes: Arc<Mutex<Vec<Vec<Lane>>>>,
}

impl Links {
    /// Links between so many places that do nothing to a packet.
    pub fn new(places: usize) -> Self {
        Self { lanes: Arc::new(Mutex::new(vec![vec![Lane::default(); places]; places])) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<Lane>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what the direction from one place to another does.
    pub fn change(&self, from: usize, to: usize, change: impl FnOnce(&mut Link)) {
        change(&mut self.lock()[from][to].link);
    }

    fn arrival_us(
        &self,
        (from, to): (usize, usize),
        now_us: u64,
        packet: &[u8],
        chance: Chance,
    ) -> Option<u64> {
        self.lock()[from][to].arrival_us(now_us, packet, chance)
    }
}

/// A packet on its way, ordered by when it arrives.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct UnderWay {
    at_us: u64,
    /// Among those that arrive at once, the one sent first.
    number: u64,
    to: usize,
    packet: Vec<u8>,
}

/// Forwards packets between the devices until it is dropped. `place_of` tells whose address one is.
pub async fn forward(
    devices: Vec<Tun>,
    links: Links,
    seed: u64,
    place_of: impl Fn([u8; 4]) -> Option<usize> + Clone + Send + 'static,
) {
    let devices: Arc<[Tun]> = devices.into();
    let began = Instant::now();
    let (sender, mut packets) = mpsc::channel(UNDER_WAY_MAX);
    for from in 0..devices.len() {
        let (devices, links, sender, place_of) =
            (Arc::clone(&devices), links.clone(), sender.clone(), place_of.clone());
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(u64::try_from(from).unwrap_or_default()));
        tokio::spawn(async move {
            let mut packet = [0; PACKET_BYTES_MAX];
            while let Ok(length) = devices[from].recv(&mut packet).await {
                let packet = &packet[..length];
                let Some(to) = destination(packet).and_then(&place_of) else { continue };
                let now_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                let chance =
                    Chance { loss: rng.random_range(0..1_000), jitter: rng.random_range(0..1_000_000) };
                if let Some(at_us) = links.arrival_us((from, to), now_us, packet, chance) {
                    // Full: the packet is lost.
                    let _ = sender.try_send((at_us, to, packet.to_vec()));
                }
            }
        });
    }
    let mut under_way: BinaryHeap<Reverse<UnderWay>> = BinaryHeap::new();
    let mut number = 0;
    loop {
        let next = under_way.peek().map(|Reverse(first)| began + Duration::from_micros(first.at_us));
        let due = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            received = packets.recv() => {
                let Some((at_us, to, packet)) = received else { return };
                if under_way.len() < UNDER_WAY_MAX {
                    number += 1;
                    under_way.push(Reverse(UnderWay { at_us, number, to, packet }));
                }
            }
            () = due => {
                let now_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                while under_way.peek().is_some_and(|Reverse(first)| first.at_us <= now_us) {
                    if let Some(Reverse(first)) = under_way.pop() {
                        // A device that takes no more loses it.
                        let _ = devices[first.to].try_send(&first.packet);
                    }
                }
            }
        }
    }
}
