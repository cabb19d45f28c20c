//! Holding: a request whose unit is not served waits, within bounds, and is tried again.

use std::rc::Rc;
use std::time::{Duration, Instant};

use dujiang_routing::{Place, Target as RoutingTarget};
use dujiang_types::Problem;
use http::Response;

use crate::body::AnswerBody;
use crate::forward::{Outcome, backoff};
use crate::limits::TOTAL_MAX;
use crate::problem;
use crate::proxy::{Job, Message, Routed};
use crate::shard::Shard;

impl Job<'_> {
    /// Repeats what may be repeated until it is answered or the bounds are reached.
    pub(crate) async fn persist(&mut self, mut message: Message<'_>, first: Outcome) -> Response<AnswerBody> {
        let mut outcome = first;
        let mut held = Held::default();
        let mut repetition = 0;
        let response = loop {
            let problem = match outcome {
                Outcome::Answer(response) => break response,
                Outcome::NothingDone(problem) => problem,
                Outcome::Unknown(why) => {
                    // A read changes nothing, so about it everything is known.
                    message.unknown |= !message.request.reads();
                    if !message.request.repeatable() {
                        break give_up(&message, &problem::unknown(why));
                    }
                    problem::unavailable(why)
                }
            };
            if self.client.is_gateway() || !message.payload.is_unspent() {
                break give_up(&message, &problem);
            }
            let Ok(routed) = self.route(message.request) else { break give_up(&message, &problem) };
            if routed.unit().is_none() {
                break give_up(&message, &problem);
            }
            if let Err(problem) = held.wait(self, &routed, problem, repetition).await {
                break give_up(&message, &problem);
            }
            repetition += 1;
            outcome = self.attempt(&mut message).await;
        };
        self.notes.held = held.ends();
        response
    }
}

/// The answer when nothing more can be tried.
fn give_up(message: &Message<'_>, problem: &Problem) -> Response<AnswerBody> {
    if message.unknown && problem.nothing_done() {
        // The last attempt did nothing, but an earlier one may have.
        return problem::response(&problem::unknown("An attempt was sent and never answered."));
    }
    problem::response(problem)
}

/// A request's time in waiting.
#[derive(Default)]
struct Held {
    since: Option<Instant>,
    shard: Option<std::sync::Arc<Shard>>,
    place: Option<crate::shard::Place>,
}

impl Held {
    /// Waits for a new table, or a little if the table does not say to hold. The error is what to answer.
    async fn wait(
        &mut self,
        job: &Job<'_>,
        routed: &Routed,
        problem: Problem,
        repetition: u32,
    ) -> Result<(), Problem> {
        let Some(unit) = routed.unit() else { return Err(problem) };
        let worker = Rc::clone(job.worker);
        if self.place.is_none() {
            let full = || problem::overloaded("Too many requests of this unit are waiting.");
            self.place = Some(unit.waiting.enter(worker.limits.held_per_unit_max).ok_or_else(full)?);
            self.shard = Some(unit.shard.clone());
        }
        unit.shard.retries.add(1);
        let since = *self.since.get_or_insert_with(Instant::now);
        let until = (since + worker.limits.hold_max).min(job.started + TOTAL_MAX);
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(problem);
        }
        let holds = match routed.target {
            RoutingTarget::Unit(unit) => routed.view.compiled.units[unit].place == Place::Hold,
            RoutingTarget::Application(_) => false,
        };
        let pause = if holds { left } else { backoff(repetition).min(left) };
        let changed = worker.changed.notified();
        if worker.follows(&routed.view) {
            // Either way the request is tried again; the bound is looked at before the next pause.
            let _ = tokio::time::timeout(pause, changed).await;
        }
        Ok(())
    }

    /// How long it was.
    fn ends(self) -> Duration {
        let Some((since, shard)) = self.since.zip(self.shard) else { return Duration::ZERO };
        let duration = since.elapsed();
        shard.held(duration);
        duration
    }
}
