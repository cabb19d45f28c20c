//! Which of several control servers decides.
//!
//! The store holds two keys: the *leader's record*, written once per term, whose revision names the term; and the
//! *pulse*, which the leader writes every [`PULSE_MS`]. Whoever sees the same pulse for [`SILENT_MS`] by its own clock
//! takes over, by one transaction that holds only if both keys still are as it saw them.
//!
//! * A leader leads until [`VALID_MS`] after it *sent* its last pulse that was committed. `VALID_MS < SILENT_MS`, and
//!   others count from having *read* that pulse, which is later: so it has stopped before anyone takes over.
//! * What it writes carries the condition that the leader's record is still its own, so a server that was paused in
//!   the middle of a decision writes nothing after another has taken over.
//! * Leases of primaries it granted were granted before it stopped: before `VALID_MS` after the last pulse was read.
//!   The new leader counts from there, not from its own start, so that losing both a unit's home and the leader at
//!   once costs little more than losing the home.

use dujiang_types::Revision;

/// How often the leader writes its pulse.
pub const PULSE_MS: u64 = 250;
/// How long a leader decides without being able to write its pulse: three lost pulses.
pub const VALID_MS: u64 = 1_000;
/// How long a pulse stands still before another server takes over. The difference to [`VALID_MS`] is for drift of the
/// clocks.
pub const SILENT_MS: u64 = 1_500;

/// What the store says, as of one revision. 0 where there is nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Revision of the leader's record: the term.
    pub leader: Revision,
    /// Revision of the pulse.
    pub pulse: Revision,
}

/// What one server knows of who leads. Times are milliseconds of its own monotonic clock.
#[derive(Debug, Clone, Default)]
pub struct Leadership {
    seen: Option<(Standing, u64)>,
    term: Option<Term>,
}

#[derive(Debug, Clone, Copy)]
struct Term {
    revision: Revision,
    until_ms: u64,
}

impl Leadership {
    /// Of the only server there is: it leads for ever, under term 0, which no condition needs to hold for.
    pub fn alone() -> Self {
        Self { seen: None, term: Some(Term { revision: Revision(0), until_ms: u64::MAX }) }
    }

    /// The term, if this server leads now.
    pub fn leads(&self, now_ms: u64) -> Option<Revision> {
        self.term.filter(|term| now_ms < term.until_ms).map(|term| term.revision)
    }

    /// Takes in what was read from the store; `now_ms` is after the answer. True if it is time to take over, on the
    /// condition that the store still says the same.
    pub fn read(&mut self, standing: Standing, now_ms: u64) -> bool {
        match self.seen {
            _ if standing.leader == Revision(0) => {
                self.seen = Some((standing, now_ms));
                true
            }
            Some((seen, since_ms)) if seen == standing => now_ms.saturating_sub(since_ms) >= SILENT_MS,
            _ => {
                self.seen = Some((standing, now_ms));
                false
            }
        }
    }

    /// Until when leases may have been granted by whoever led before, if this server takes over now.
    pub fn granted_until_ms(&self, now_ms: u64) -> u64 {
        match self.seen {
            Some((seen, since_ms)) if seen.leader != Revision(0) => now_ms.min(since_ms + VALID_MS),
            // Nobody led before, as far as this store knows. It may have been emptied.
            _ => now_ms,
        }
    }

    /// The transaction that takes over was committed as `term`; it was sent at `sent_ms`.
    pub fn took_over(&mut self, term: Revision, sent_ms: u64) {
        self.term = Some(Term { revision: term, until_ms: sent_ms + VALID_MS });
        self.seen = None;
    }

    /// A pulse that was sent at `sent_ms` was committed, so the term goes on.
    pub fn pulsed(&mut self, sent_ms: u64) {
        if let Some(term) = &mut self.term {
            term.until_ms = term.until_ms.max(sent_ms + VALID_MS);
        }
    }

    /// Another server has taken over.
    pub fn lost(&mut self) {
        self.term = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn standing(leader: u64, pulse: u64) -> Standing {
        Standing { leader: Revision(leader), pulse: Revision(pulse) }
    }

    #[test]
    fn an_empty_store_is_taken_at_once_and_a_silent_leader_after_a_while() {
        let mut server = Leadership::default();
        assert!(server.read(standing(0, 0), 10));
        assert_eq!(server.granted_until_ms(12), 12);
        server.took_over(Revision(5), 12);
        assert_eq!(server.leads(12 + VALID_MS - 1), Some(Revision(5)));
        assert_eq!(server.leads(12 + VALID_MS), None, "without a pulse it ends by itself");
        server.pulsed(300);
        assert_eq!(server.leads(300 + VALID_MS - 1), Some(Revision(5)), "nobody else took over meanwhile");
        server.lost();
        assert_eq!(server.leads(301), None);

        let mut other = Leadership::default();
        assert!(!other.read(standing(5, 7), 1_000));
        assert!(!other.read(standing(5, 7), 1_000 + SILENT_MS - 1));
        assert!(!other.read(standing(5, 8), 1_000 + SILENT_MS), "a pulse");
        assert!(other.read(standing(5, 8), 1_000 + 2 * SILENT_MS));
        assert_eq!(other.granted_until_ms(4_100), 1_000 + SILENT_MS + VALID_MS);
    }

    #[test]
    fn the_only_server_leads_for_ever() {
        assert_eq!(Leadership::alone().leads(u64::MAX - 1), Some(Revision(0)));
    }

    /// A server in a world of messages that take time and processes that are paused.
    #[derive(Debug, Default)]
    struct Server {
        leadership: Leadership,
        /// What is on its way: one look or one attempt to take over, or up to four pulses.
        calls: Vec<Call>,
        idle_until_ms: u64,
        frozen_until_ms: u64,
    }

    /// When it was sent, arrives at the store, is back with its answer, and what it is.
    #[derive(Debug, Clone, Copy)]
    struct Call {
        sent_ms: u64,
        at_store_ms: u64,
        back_ms: u64,
        what: What,
        answer: Option<Answer>,
    }

    #[derive(Debug, Clone, Copy)]
    enum What {
        Read,
        TakeOver(Standing),
        Pulse(Revision),
    }

    #[derive(Debug, Clone, Copy)]
    enum Answer {
        Standing(Standing),
        Committed(Revision),
        Conflict,
    }

    /// The store, and what must never happen.
    #[derive(Debug)]
    struct World {
        standing: Standing,
        revision: u64,
        servers: Vec<Server>,
        /// Latest moment anybody granted a lease, and the term it was granted in.
        last_grant: (u64, Revision),
    }

    impl World {
        fn at_store(&mut self, what: What) -> Answer {
            let holds = match what {
                What::Read => return Answer::Standing(self.standing),
                What::TakeOver(seen) => seen == self.standing,
                What::Pulse(term) => term == self.standing.leader,
            };
            if !holds {
                return Answer::Conflict;
            }
            self.revision += 1;
            self.standing.pulse = Revision(self.revision);
            if let What::TakeOver(_) = what {
                self.standing.leader = Revision(self.revision);
            }
            Answer::Committed(Revision(self.revision))
        }

        /// Takes an answer in. `Some` is what follows from it at once.
        fn answered(&mut self, number: usize, call: Call, now_ms: u64) -> Result<Option<What>, String> {
            let server = &mut self.servers[number];
            match (call.what, call.answer) {
                (What::Read, Some(Answer::Standing(standing))) => {
                    return Ok(server.leadership.read(standing, now_ms).then_some(What::TakeOver(standing)));
                }
                (What::TakeOver(_), Some(Answer::Committed(term))) => {
                    let bound = server.leadership.granted_until_ms(call.sent_ms);
                    server.leadership.took_over(term, call.sent_ms);
                    let (granted_ms, by) = self.last_grant;
                    // The answer may be so late that others have led since: then it does not lead either.
                    if by < term && granted_ms > bound {
                        return Err(format!("{by} granted at {granted_ms}, {term} counts from {bound}"));
                    }
                }
                (What::Pulse(_), Some(Answer::Committed(_))) => server.leadership.pulsed(call.sent_ms),
                (What::Pulse(_), Some(Answer::Conflict)) => {
                    server.leadership.lost();
                    server.calls.clear();
                }
                _ => {} // lost on the way, or somebody else was faster
            }
            Ok(None)
        }

        /// Everything that happens in one millisecond. `chance` decides about delays, losses and pauses.
        fn step(&mut self, now_ms: u64, chance: &mut impl FnMut(u64) -> u64) -> Result<(), String> {
            for number in 0..self.servers.len() {
                for index in 0..self.servers[number].calls.len() {
                    let call = self.servers[number].calls[index];
                    if call.answer.is_none() && call.at_store_ms == now_ms {
                        self.servers[number].calls[index].answer = Some(self.at_store(call.what));
                    }
                }
            }
            for number in 0..self.servers.len() {
                self.run(number, now_ms, chance)?;
            }
            let leads = self.servers.iter().filter(|server| server.leadership.leads(now_ms).is_some());
            if leads.count() > 1 { Err(format!("two lead at {now_ms}")) } else { Ok(()) }
        }

        fn run(
            &mut self,
            number: usize,
            now_ms: u64,
            chance: &mut impl FnMut(u64) -> u64,
        ) -> Result<(), String> {
            let server = &mut self.servers[number];
            if server.frozen_until_ms > now_ms {
                return Ok(());
            }
            if chance(8_000) == 0 {
                server.frozen_until_ms = now_ms + chance(6_000);
                return Ok(());
            }
            if let Some(term) = server.leadership.leads(now_ms) {
                // Whoever leads may grant a lease at any moment.
                self.last_grant = (now_ms, term);
            }
            while let Some(back) = self.servers[number].calls.iter().position(|call| call.back_ms <= now_ms) {
                let call = self.servers[number].calls.remove(back);
                match self.answered(number, call, now_ms)? {
                    Some(what) => self.send(number, what, now_ms, chance),
                    None if !matches!(call.what, What::Pulse(_)) => {
                        self.servers[number].idle_until_ms = now_ms + 100;
                    }
                    None => {}
                }
            }
            let server = &mut self.servers[number];
            let (what, most) = match server.leadership.term {
                None => (What::Read, 1),
                Some(term) => (What::Pulse(term.revision), 4),
            };
            if server.calls.len() < most && server.idle_until_ms <= now_ms {
                server.idle_until_ms = now_ms + if most > 1 { PULSE_MS } else { 0 };
                self.send(number, what, now_ms, chance);
            }
            Ok(())
        }

        fn send(&mut self, number: usize, what: What, now_ms: u64, chance: &mut impl FnMut(u64) -> u64) {
            // One in twenty is slow, one in a hundred never arrives: pulses overtake each other.
            let mut delay = || if chance(20) == 0 { 1 + chance(3_000) } else { 1 + chance(30) };
            let (there, back) = (delay(), delay());
            let at_store_ms = if chance(100) == 0 { u64::MAX } else { now_ms + there };
            let call =
                Call { sent_ms: now_ms, at_store_ms, back_ms: now_ms + there + back, what, answer: None };
            self.servers[number].calls.push(call);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Three servers, a minute each, with slow and lost messages and frozen processes: never two lead at once, no
        /// lease is granted after the moment the next leader counts from, and somebody leads most of the time.
        #[test]
        fn one_leads_at_a_time_whatever_is_slow_lost_or_frozen(seed in 1_u64..u64::MAX) {
            let mut state = seed;
            let mut chance = move |below: u64| {
                // xorshift64*
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                state.wrapping_mul(0x2545_f491_4f6c_dd1d) % below
            };
            let servers = (0..3).map(|_| Server::default()).collect();
            let mut world =
                World { standing: standing(0, 0), revision: 1, servers, last_grant: (0, Revision(0)) };
            let mut led = 0_u64;
            for now_ms in 1..60_000 {
                if let Err(violation) = world.step(now_ms, &mut chance) {
                    return Err(TestCaseError::fail(format!("seed {seed}: {violation}")));
                }
                led += u64::from(world.servers.iter().any(|server| server.leadership.leads(now_ms).is_some()));
            }
            prop_assert!(led > 20_000, "seed {seed}: somebody led for {led} ms only");
        }
    }
}
