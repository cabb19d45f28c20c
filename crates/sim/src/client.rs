//! Clients: each makes one write after the other, and repeats what was not answered with the same key.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::event::{Event, Message, Outcome};
use crate::network::Channel;
use crate::place::{CLIENT_SITE, DC_COUNT, Dc, Proc};
use crate::trace::{MS, SECOND, Us};
use crate::world::World;

/// Clients per unit.
const CLIENTS_PER_UNIT: usize = 3;
/// A client gives up waiting after that long.
const PATIENCE: Us = 12 * SECOND;
/// A client that got no definite answer tries the same key again that often, then leaves it unknown.
const TRIES_MAX: u32 = 6;

/// One try of one write.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Who tries.
    pub client: usize,
    /// For which unit.
    pub unit: usize,
    /// The idempotency key.
    pub key: u64,
    /// The gateway it went to.
    pub gateway: Dc,
}

#[derive(Debug, Default)]
struct Client {
    unit: usize,
    /// The attempt that is waited for.
    waiting: Option<u64>,
    /// Key without a definite answer, and how often it was tried.
    unsettled: Option<(u64, u32)>,
}

/// All clients and their attempts.
#[derive(Debug)]
pub struct Clients {
    attempts: Vec<Attempt>,
    all: Vec<Client>,
    last_key: u64,
    think_us: Us,
    /// Acknowledgements clients received, by unit, since the world was healed.
    pub served_since_heal: Vec<u64>,
    /// Writes made so far.
    pub acknowledged: u64,
}

impl Clients {
    /// Clients for that many units, with a pace of their own per run.
    pub fn new(rng: &mut ChaCha8Rng, units: usize) -> Self {
        let clients = (0..units * CLIENTS_PER_UNIT).map(|n| Client { unit: n % units, ..Client::default() });
        Self {
            attempts: Vec::new(),
            all: clients.collect(),
            last_key: 0,
            think_us: rng.random_range(20 * MS..300 * MS),
            served_since_heal: vec![0; units],
            acknowledged: 0,
        }
    }

    /// The key an attempt carries.
    pub fn key_of(&self, attempt: u64) -> u64 {
        self.attempt(attempt).key
    }

    /// The attempt with that number.
    pub fn attempt(&self, attempt: u64) -> &Attempt {
        let index = usize::try_from(attempt).unwrap_or(usize::MAX);
        &self.attempts[index]
    }
}

impl World {
    /// Starts all clients.
    pub fn start_clients(&mut self) {
        for client in 0..self.clients.all.len() {
            self.processes.start(Proc::Client(client));
            let think = self.between(0, SECOND);
            self.after(think, Proc::Client(client), Event::Think { client });
        }
    }

    pub(crate) fn client_thinks(&mut self, client: usize) {
        let gateway = self.rng.random_range(0..DC_COUNT);
        let clients = &mut self.clients;
        let state = &mut clients.all[client];
        if state.waiting.is_some() {
            return;
        }
        let (key, tries) = state.unsettled.unwrap_or_else(|| {
            clients.last_key += 1;
            (clients.last_key, 0)
        });
        state.unsettled = Some((key, tries + 1));
        let attempt = clients.attempts.len() as u64;
        state.waiting = Some(attempt);
        clients.attempts.push(Attempt { client, unit: state.unit, key, gateway });
        self.send(Channel::Traffic, CLIENT_SITE, Proc::Gateway(gateway), &Message::Request { attempt });
        self.after(PATIENCE, Proc::Client(client), Event::Impatient { client, attempt });
    }

    pub(crate) fn client_impatient(&mut self, client: usize, attempt: u64) {
        self.client_response(client, attempt, Outcome::Unknown);
    }

    pub(crate) fn client_response(&mut self, client: usize, attempt: u64, outcome: Outcome) {
        let (think, healed) = (self.clients.think_us, self.healed());
        let state = &mut self.clients.all[client];
        if state.waiting != Some(attempt) {
            return;
        }
        state.waiting = None;
        let spent = state.unsettled.is_none_or(|(_, tries)| tries >= TRIES_MAX);
        if outcome == Outcome::Acknowledged || spent {
            state.unsettled = None;
        }
        if outcome == Outcome::Acknowledged {
            self.clients.acknowledged += 1;
            if healed {
                self.clients.served_since_heal[state.unit] += 1;
            }
        }
        let pause = self.between(think / 2, think + think / 2);
        self.after(pause, Proc::Client(client), Event::Think { client });
    }
}
