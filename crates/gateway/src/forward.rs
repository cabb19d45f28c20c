//! One attempt to have a request answered, by an instance here or by the gateway at its unit's home.

use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dujiang_routing::{Place, Target as RoutingTarget};
use dujiang_types::api::HEADER_HOP;
use dujiang_types::error::PROBLEM_MEDIA_TYPE;
use dujiang_types::{Code, Problem};
use http::header;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Limited};

use crate::answer::AnswerHead;
use crate::body::{AnswerBody, Payload, PayloadError};
use crate::limits::{PROBLEM_BYTES_MAX, STALL_MAX, TICK, TOTAL_MAX};
use crate::problem;
use crate::proxy::{Job, Message, Routed};
use crate::shard::InFlight;
use crate::upstream::{Broken, Connection, Exchange, Target};

/// How an attempt ended.
pub(crate) enum Outcome {
    /// With an answer to pass on.
    Answer(Response<AnswerBody>),
    /// Certainly nothing was done.
    NothingDone(Problem),
    /// Something may have been done.
    Unknown(&'static str),
}

/// How an exchange failed.
enum Failed {
    /// Before a byte was sent.
    Unsent,
    /// Afterwards, so it may have been executed.
    Sent(&'static str),
    /// Because of the client.
    Payload(PayloadError),
}

impl Job<'_> {
    /// Forwards the request once to where the table says.
    pub(crate) async fn attempt(&mut self, message: &mut Message<'_>) -> Outcome {
        let routed = match self.route(message.request) {
            Ok(routed) => routed,
            Err(problem) if problem.nothing_done() => return Outcome::NothingDone(problem),
            Err(problem) => return Outcome::Answer(problem::response(&problem)),
        };
        let mut in_flight = None;
        let place = match routed.target {
            RoutingTarget::Application(application) => {
                return self.via_instances(message, &routed, application, &mut in_flight).await;
            }
            RoutingTarget::Unit(unit) => &routed.view.compiled.units[unit],
        };
        let Some(unit) = routed.unit() else { return Outcome::Unknown("The route is not known.") };
        if place.place == Place::Hold {
            return Outcome::NothingDone(problem::unavailable("The unit is moving."));
        }
        if unit.shard.in_flight.get() >= self.worker.limits.in_flight_per_unit_max {
            return Outcome::NothingDone(problem::overloaded(
                "Too many requests of this unit are under way.",
            ));
        }
        in_flight = Some(self.worker.in_flight(&unit.shard));
        match &unit.mesh {
            None => self.via_instances(message, &routed, place.application, &mut in_flight).await,
            Some(gateway) => match self.exchange(message, &routed, gateway).await {
                Ok((head, connection, in_step)) => {
                    self.received(message, gateway, head, connection, in_step, in_flight).await
                }
                Err(Failed::Unsent) => {
                    Outcome::NothingDone(problem::unavailable("The unit's home cannot be reached."))
                }
                Err(Failed::Sent(why)) => Outcome::Unknown(why),
                Err(Failed::Payload(error)) => Outcome::Answer(self.bad_payload(error)),
            },
        }
    }

    /// Tries the application's instances in turn, as long as nothing was sent.
    async fn via_instances(
        &mut self,
        message: &mut Message<'_>,
        routed: &Routed,
        application: usize,
        in_flight: &mut Option<InFlight>,
    ) -> Outcome {
        let instances = routed.view.applications[application].in_turn();
        for instance in instances.filter(|i| i.health.as_ref().is_none_or(|health| health.admits())) {
            match self.exchange(message, routed, instance).await {
                Ok((head, connection, in_step)) => {
                    instance.went_well();
                    return self
                        .received(message, instance, head, connection, in_step, in_flight.take())
                        .await;
                }
                Err(Failed::Unsent) => instance.broke(),
                Err(Failed::Sent(why)) => {
                    instance.broke();
                    return Outcome::Unknown(why);
                }
                Err(Failed::Payload(error)) => return Outcome::Answer(self.bad_payload(error)),
            }
        }
        Outcome::NothingDone(problem::unavailable("No instance of the application is ready here."))
    }

    /// One exchange over an idle connection, or over a new one if the idle one turns out to be closed.
    async fn exchange(
        &mut self,
        message: &mut Message<'_>,
        routed: &Routed,
        target: &Rc<Target>,
    ) -> Result<(AnswerHead, Connection, bool), Failed> {
        self.notes.upstream = Some(target.address);
        let repeatable = message.request.repeatable();
        if let Some(idle) = target.take_idle(!repeatable) {
            self.worker.counts.upstream_reused.add(1);
            match self.exchange_over(idle, message, routed, target).await {
                // It was closed while idle: that says nothing about the other end's health.
                Err((Failed::Unsent, _)) => {}
                Err((Failed::Sent(_), true)) if repeatable && message.payload.is_unspent() => {
                    message.unknown |= !message.request.reads();
                }
                other => return other.map_err(|(failed, _)| failed),
            }
        }
        self.worker.counts.upstream_opened.add(1);
        let opened = target.connect(self.worker.limits.connect_max).await;
        let connection = opened.map_err(|error| {
            tracing::debug!(upstream = %target.address, %error, "cannot connect");
            Failed::Unsent
        })?;
        self.exchange_over(connection, message, routed, target).await.map_err(|(failed, _)| failed)
    }

    /// One exchange over one connection. Beside a failure stands whether the connection just was closed.
    async fn exchange_over(
        &mut self,
        mut connection: Connection,
        message: &mut Message<'_>,
        routed: &Routed,
        target: &Rc<Target>,
    ) -> Result<(AnswerHead, Connection, bool), (Failed, bool)> {
        self.notes.attempts += 1;
        message.complete(routed.unit().map(|unit| (&unit.identity[..], unit.mesh.is_some())));
        let method = &message.request.parts.method;
        let mut exchange = Exchange::new(&mut connection, method, &mut message.head, &mut message.payload);
        let mut watch = Watch { moved_at: Instant::now(), progress: 0 };
        let ended = loop {
            if let Ok(ended) = tokio::time::timeout(TICK, exchange.run()).await {
                break ended.map_err(|broken| failed(&broken, exchange.sent, target));
            }
            let repeatable = message.request.repeatable();
            if let Some(failed) = watch.gives_up(self, repeatable, routed, target, &exchange) {
                break Err((failed, false));
            }
        };
        let (head, in_step) = ended?;
        Ok((head, connection, in_step))
    }

    /// Makes an outcome of an answer.
    async fn received(
        &self,
        message: &Message<'_>,
        target: &Rc<Target>,
        head: AnswerHead,
        connection: Connection,
        in_step: bool,
        in_flight: Option<InFlight>,
    ) -> Outcome {
        let AnswerHead { status, headers, framing, keep_alive } = head;
        if !in_step {
            self.client.linger(); // a part of the request's body is still on its way to us
        }
        let body =
            AnswerBody::of_answer(framing, connection, keep_alive && in_step, target, self.client, in_flight);
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        // Another gateway decides for itself what to make of a problem.
        if self.client.is_gateway() || !may_be_ours(&response) {
            return Outcome::Answer(response);
        }
        let (response, problem) = Box::pin(read_problem(response)).await;
        match problem {
            Some(problem) => classify(message, response, problem),
            None => Outcome::Answer(response),
        }
    }
}

/// What to make of a problem an instance or gateway answered with.
fn classify(message: &Message<'_>, response: Response<AnswerBody>, problem: Problem) -> Outcome {
    let again = message.payload.is_unspent();
    let repeatable = again && message.request.repeatable();
    match problem.code {
        _ if problem.nothing_done() && (again || message.unknown) => Outcome::NothingDone(problem),
        // With its key the request can be sent again to learn what came of it.
        Code::OutcomeUnknown if repeatable => Outcome::Unknown("The application does not know the outcome."),
        // The first attempt is still at work; its outcome is what the client wants.
        Code::IdempotencyInProgress if repeatable && message.unknown => {
            Outcome::Unknown("An earlier attempt is still being served.")
        }
        _ => Outcome::Answer(response),
    }
}

/// True if the answer may be a problem that is for the gateway to act on.
fn may_be_ours(response: &Response<AnswerBody>) -> bool {
    matches!(
        response.status(),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT | StatusCode::CONFLICT
    ) && response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|media_type| media_type.as_bytes().starts_with(PROBLEM_MEDIA_TYPE.as_bytes()))
}

/// Reads a small body to see which problem it is; the answer remains as it was.
async fn read_problem(response: Response<AnswerBody>) -> (Response<AnswerBody>, Option<Problem>) {
    let (parts, body) = response.into_parts();
    let small =
        hyper::body::Body::size_hint(&body).upper().is_some_and(|most| most <= PROBLEM_BYTES_MAX as u64);
    if !small {
        return (Response::from_parts(parts, body), None);
    }
    let bytes = match body.as_whole() {
        Some(bytes) => bytes.clone(),
        None => {
            match tokio::time::timeout(STALL_MAX, Limited::new(body, PROBLEM_BYTES_MAX).collect()).await {
                Ok(Ok(collected)) => collected.to_bytes(),
                // What was read so far cannot be given back; an answer without its body would be a lie.
                Ok(Err(_)) | Err(_) => Bytes::new(),
            }
        }
    };
    let problem = serde_json::from_slice(&bytes).ok();
    (Response::from_parts(parts, AnswerBody::whole(bytes)), problem)
}

impl Message<'_> {
    /// Adds to the head what is different in every attempt, and the body if it is whole.
    fn complete(&mut self, unit: Option<(&[u8], bool)>) {
        let out = &mut self.head;
        out.truncate(self.head_len);
        if let Some((identity, hop)) = unit {
            out.extend_from_slice(identity);
            if hop {
                out.extend_from_slice(HEADER_HOP.as_bytes());
                out.extend_from_slice(b": 1\r\n");
            }
        }
        // Writing to a vector cannot fail.
        let _ = match &self.payload {
            Payload::None if self.request.reads() => out.write_all(b"\r\n"),
            Payload::None => out.write_all(b"content-length: 0\r\n\r\n"),
            Payload::Whole { bytes: body, .. } => {
                write!(out, "content-length: {}\r\n\r\n", body.len()).and_then(|()| out.write_all(body))
            }
            Payload::Stream(stream) => match stream.length {
                Some(length) => write!(out, "content-length: {length}\r\n\r\n"),
                None => out.write_all(b"transfer-encoding: chunked\r\n\r\n"),
            },
        };
    }
}

fn failed(broken: &Broken, sent: u64, target: &Target) -> (Failed, bool) {
    tracing::debug!(upstream = %target.address, sent, error = %broken, "exchange broken");
    let closed = matches!(broken, Broken::Closed | Broken::Io(_));
    let failed = match broken {
        Broken::Payload(error) => Failed::Payload(*error),
        _ if sent == 0 => Failed::Unsent,
        Broken::Answer(_) => Failed::Sent("The answer could not be understood."),
        Broken::Closed | Broken::Io(_) => Failed::Sent("The connection broke before the answer."),
    };
    (failed, closed)
}

/// Looks after an exchange that takes long.
struct Watch {
    moved_at: Instant,
    progress: u64,
}

impl Watch {
    /// Why not to wait any longer for the answer.
    fn gives_up(
        &mut self,
        job: &Job<'_>,
        repeatable: bool,
        routed: &Routed,
        target: &Target,
        exchange: &Exchange<'_>,
    ) -> Option<Failed> {
        if exchange.progress != self.progress {
            self.progress = exchange.progress;
            self.moved_at = Instant::now();
        }
        let still = self.moved_at.elapsed();
        if exchange.starved && still >= job.worker.limits.stall_max {
            return Some(Failed::Payload(PayloadError::Slow));
        }
        let failed = |why| if exchange.sent == 0 { Failed::Unsent } else { Failed::Sent(why) };
        if !exchange.starved && still >= job.worker.limits.first_byte_max
            || job.started.elapsed() >= TOTAL_MAX
        {
            return Some(failed("The answer did not come in time."));
        }
        // An answer of an old home or of a dead instance will never come; with its key the request can be
        // brought to the new one.
        let hopeless = job.has_moved(routed) || target.health.as_ref().is_some_and(|health| health.is_down());
        (repeatable && hopeless).then(|| failed("The unit has moved, or the instance is down."))
    }
}

impl Job<'_> {
    /// True if the unit is under another epoch by now.
    fn has_moved(&self, routed: &Routed) -> bool {
        let RoutingTarget::Unit(unit) = routed.target else { return false };
        let then = &routed.view.compiled.units[unit];
        let Some(view) = self.worker.view() else { return false };
        view.compiled.units.iter().any(|now| now.unit == then.unit && now.epoch > then.epoch)
    }
}

/// Pause before the n-th repetition (from 0).
pub(crate) fn backoff(repetition: u32) -> Duration {
    let pause = crate::limits::BACKOFF_FIRST.saturating_mul(1 << repetition.min(16));
    pause.min(crate::limits::BACKOFF_MAX)
}
