//! The network between sites: delay, loss, duplication, reordering, and cuts that may be one-way.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::place::{CLIENT_SITE, CONTROL_SITE, DC_COUNT, SITE_COUNT, Site};
use crate::trace::{MS, Us};

/// What a message belongs to. A cut may hit one channel and spare the others: a firewall rule, a full queue, a
/// dead proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Agents and the control plane.
    AgentControl,
    /// Agents among themselves (promises).
    Promises,
    /// Gateways and the control plane.
    GatewayControl,
    /// Clients, gateways, applications.
    Traffic,
    /// PostgreSQL among themselves.
    Replication,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 5] =
        [Self::AgentControl, Self::Promises, Self::GatewayControl, Self::Traffic, Self::Replication];
}

/// Directed links that are cut together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Channels concerned.
    pub channels: Vec<Channel>,
    /// Directed pairs of sites.
    pub links: Vec<(Site, Site)>,
}

/// The state of all links.
#[derive(Debug)]
pub struct Network {
    /// Cuts in force per channel and directed link: several may overlap.
    cuts: [[[u8; SITE_COUNT]; SITE_COUNT]; 5],
    delay_us: [[Us; SITE_COUNT]; SITE_COUNT],
    /// Chance that a message is lost.
    pub loss: f64,
    /// Chance that a message arrives twice.
    pub duplication: f64,
    /// Chance that a message is held up for long, so that later ones overtake it.
    pub straggling: f64,
}

impl Network {
    /// Two data centers near to each other, a third far away, the control plane somewhere between.
    pub fn new(rng: &mut ChaCha8Rng) -> Self {
        // Within a site, 50 us.
        let mut delay_us = [[50; SITE_COUNT]; SITE_COUNT];
        let pairs = (0..SITE_COUNT).flat_map(|from| (0..from).map(move |to| (from, to)));
        for (from, to) in pairs {
            let far = from == DC_COUNT - 1 || to == DC_COUNT - 1;
            let base = match (from, to) {
                (CLIENT_SITE | CONTROL_SITE, _) => rng.random_range(500..6_000),
                _ if far => rng.random_range(3_000..15_000),
                _ => rng.random_range(200..2_000),
            };
            delay_us[from][to] = base;
            delay_us[to][from] = base;
        }
        Self {
            cuts: [[[0; SITE_COUNT]; SITE_COUNT]; 5],
            delay_us,
            loss: 0.0,
            duplication: 0.0,
            straggling: 0.0,
        }
    }

    /// True if messages pass from one site to another.
    pub fn passes(&self, channel: Channel, from: Site, to: Site) -> bool {
        from == to || self.cuts[channel as usize][from][to] == 0
    }

    /// How long a message takes, if nothing is lost: base delay, jitter, now and then a straggler.
    pub fn delay(&self, rng: &mut ChaCha8Rng, from: Site, to: Site) -> Us {
        let base = self.delay_us[from][to];
        let jitter = rng.random_range(0..=base / 2 + 20);
        let straggle = if self.straggling > 0.0 && rng.random_bool(self.straggling) {
            rng.random_range(MS..2_000 * MS)
        } else {
            0
        };
        base + jitter + straggle
    }

    /// Delays of every copy of a datagram that arrives: none if it is lost, two if it is duplicated.
    pub fn copies(&self, rng: &mut ChaCha8Rng, channel: Channel, from: Site, to: Site) -> [Option<Us>; 2] {
        if !self.passes(channel, from, to) {
            return [None, None];
        }
        let lost = from != to && self.loss > 0.0 && rng.random_bool(self.loss);
        let twice = from != to && self.duplication > 0.0 && rng.random_bool(self.duplication);
        let first = (!lost).then(|| self.delay(rng, from, to));
        let second = twice.then(|| self.delay(rng, from, to));
        [first, second]
    }

    /// Brings a cut into force.
    pub fn cut(&mut self, cut: &Cut) {
        self.change(cut, |count| count.saturating_add(1));
    }

    /// Mends a cut; links under another cut stay cut.
    pub fn mend(&mut self, cut: &Cut) {
        self.change(cut, |count| count.saturating_sub(1));
    }

    /// Mends everything and stops losing, duplicating and delaying.
    pub fn heal(&mut self) {
        self.cuts = [[[0; SITE_COUNT]; SITE_COUNT]; 5];
        self.loss = 0.0;
        self.duplication = 0.0;
        self.straggling = 0.0;
    }

    fn change(&mut self, cut: &Cut, change: impl Fn(u8) -> u8) {
        for channel in &cut.channels {
            for &(from, to) in &cut.links {
                let count = &mut self.cuts[*channel as usize][from][to];
                *count = change(*count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn a_one_way_cut_stops_one_direction_of_one_channel() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut net = Network::new(&mut rng);
        let cut = Cut { channels: vec![Channel::Replication], links: vec![(0, 1)] };
        net.cut(&cut);
        net.cut(&cut);
        assert!(!net.passes(Channel::Replication, 0, 1));
        assert!(net.passes(Channel::Replication, 1, 0));
        assert!(net.passes(Channel::Promises, 0, 1));
        net.mend(&cut);
        assert!(!net.passes(Channel::Replication, 0, 1), "another cut is still in force");
        net.mend(&cut);
        assert!(net.passes(Channel::Replication, 0, 1));
    }

    #[test]
    fn loss_and_duplication_happen() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut net = Network::new(&mut rng);
        net.loss = 0.5;
        net.duplication = 0.5;
        let arrivals: Vec<usize> = (0..200)
            .map(|_| net.copies(&mut rng, Channel::Promises, 0, 1).iter().flatten().count())
            .collect();
        for copies in 0..=2 {
            assert!(arrivals.contains(&copies), "{copies} copies never arrived");
        }
    }
}
