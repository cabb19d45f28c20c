//! One request from its arrival to its answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use dujiang_routing::{Place, Target as RoutingTarget};
use dujiang_types::api::HEADER_IDEMPOTENCY_KEY;
use dujiang_types::{Code, Problem};
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode, request};
use hyper::body::{Body, Incoming};

use crate::access_log::Entry;
use crate::answers::Told;
use crate::body::{AnswerBody, Payload, PayloadError};
use crate::client::ClientState;
use crate::forward::Outcome;
use crate::hygiene::{From, Vetted, new_traceparent};
use crate::problem;
use crate::turn;
use crate::worker::{UnitView, View, Worker};

/// Room for a typical request's line and headers, ours included.
const HEAD_BYTES_TYPICAL: usize = 640;

/// Serves one request of a client or of another gateway.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    client: Rc<ClientState>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    client.request_begins();
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let mut job = Job { worker: &worker, client: &client, started, routed: None, notes: Notes::default() };
    let mut response = match Vetted::new(&parts) {
        Ok(vetted) => job.answer(&vetted, body).await,
        Err(refusal) => job.unread(&problem::from_refusal(refusal), &body),
    };
    client.answer_begins();
    if worker.is_stopping() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    job.account(&parts, response.status());
    Ok(response)
}

/// A request being served.
pub(crate) struct Job<'r> {
    pub(crate) worker: &'r Rc<Worker>,
    pub(crate) client: &'r Rc<ClientState>,
    pub(crate) started: Instant,
    pub(crate) notes: Notes,
    routed: Option<Routed>,
}

/// What is written down about a request.
#[derive(Default)]
pub(crate) struct Notes {
    /// How long it waited for its unit.
    pub(crate) held: Duration,
    /// How often it was sent somewhere.
    pub(crate) attempts: u32,
    /// Where it was sent last.
    pub(crate) upstream: Option<SocketAddr>,
}

/// Whom a request is for, by one table.
#[derive(Clone)]
pub(crate) struct Routed {
    pub(crate) view: Rc<View>,
    pub(crate) target: RoutingTarget,
}

impl Routed {
    /// The unit it is for, unless any instance will do.
    pub(crate) fn unit(&self) -> Option<&UnitView> {
        match self.target {
            RoutingTarget::Unit(unit) => Some(&self.view.units[unit]),
            RoutingTarget::Application(_) => None,
        }
    }
}

/// What is sent, kept for all attempts.
pub(crate) struct Message<'r> {
    pub(crate) request: &'r Vetted<'r>,
    /// Line and headers that are the same in every attempt; an attempt adds its own behind them.
    pub(crate) head: Vec<u8>,
    /// Length of what is the same.
    pub(crate) head_len: usize,
    pub(crate) payload: Payload,
    /// True once an attempt may have been executed.
    pub(crate) unknown: bool,
}

impl Job<'_> {
    async fn answer(&mut self, request: &Vetted<'_>, body: Incoming) -> Response<AnswerBody> {
        if let Err(problem) = self.route(request) {
            return self.unread(&problem, &body);
        }
        let limits = &self.worker.limits;
        let payload =
            Payload::take(body, &self.worker.budget, limits.body_bytes_max, limits.body_read_max).await;
        let payload = match payload {
            Ok(payload) => payload,
            Err(error) => return self.bad_payload(error),
        };
        let mut message = self.message(request, payload);
        match self.attempt(&mut message).await {
            Outcome::Answer(response) => response,
            // Boxed, because it is rare and large and would be moved along with every request.
            failed => Box::pin(self.persist(message, failed)).await,
        }
    }

    fn message<'m>(&self, request: &'m Vetted<'m>, payload: Payload) -> Message<'m> {
        let from = if self.client.is_gateway() {
            From::Gateway
        } else {
            let address = self.client.peer.ip();
            From::Client { address, text: address.to_string() }
        };
        let worker = self.worker;
        let mut trace = || new_traceparent([worker.random(), worker.random(), worker.random()]);
        let mut head = Vec::with_capacity(HEAD_BYTES_TYPICAL);
        request.write(&mut head, &from, &mut trace);
        Message { request, head_len: head.len(), head, payload, unknown: false }
    }

    /// Finds whom the request is for by the table as it is now.
    pub(crate) fn route(&mut self, request: &Vetted<'_>) -> Result<Routed, Problem> {
        if let Some(routed) = self.routed.as_ref().filter(|routed| self.worker.follows(&routed.view)) {
            return Ok(routed.clone());
        }
        let none = || problem::unavailable("This gateway has not received a routing table yet.");
        let view = self.worker.view().ok_or_else(none)?;
        let target = view.target(request).map_err(problem::from_refusal)?;
        if self.client.is_gateway()
            && let RoutingTarget::Unit(unit) = target
        {
            // Another gateway waits and knows its bounds: it gets the truth at once, and nobody forwards twice.
            match view.compiled.units[unit].place {
                Place::Here => {}
                Place::Hold => return Err(problem::unavailable("The unit is moving.")),
                Place::Mesh { .. } => {
                    return Err(problem::moved("The unit is not at home in this data center."));
                }
            }
        }
        let routed = Routed { view, target };
        self.routed = Some(routed.clone());
        Ok(routed)
    }

    /// Refuses a request whose body nobody has read.
    fn unread(&self, problem: &Problem, body: &Incoming) -> Response<AnswerBody> {
        if !body.is_end_stream() {
            self.client.linger();
        }
        problem::response(problem)
    }

    /// Refuses a request whose body cannot be read.
    pub(crate) fn bad_payload(&self, error: PayloadError) -> Response<AnswerBody> {
        self.client.linger();
        let problem = match error {
            PayloadError::TooLarge => Problem::new(
                Code::RequestTooLarge,
                format!("The body is larger than {} bytes.", self.worker.limits.body_bytes_max),
            ),
            PayloadError::Slow => Problem::new(Code::RequestIncomplete, "The body did not arrive in time."),
            PayloadError::Broken => Problem::new(Code::RequestIncomplete, "The body broke off."),
            PayloadError::Malformed => Problem::new(Code::RequestInvalid, "The body is malformed."),
        };
        let mut response = problem::response(&problem);
        // What is left of the body cannot be told from a next request.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }

    /// Counts and logs an answered request.
    fn account(&self, request: &request::Parts, status: StatusCode) {
        let took = self.started.elapsed();
        let unit = self.routed.as_ref().and_then(Routed::unit);
        let shard = unit.map_or(&self.worker.counts.unrouted, |unit| &unit.shard);
        shard.answered(status.as_u16(), took);
        // Another gateway's client is counted there.
        if !self.client.is_gateway()
            && let Some(Routed { view, target: RoutingTarget::Unit(unit) }) = &self.routed
        {
            let epoch = view.compiled.units[*unit].epoch;
            shard.turn.answered(epoch, status.as_u16(), self.notes.held, turn::wall_us);
        }
        self.tell(request, status);
        let Some(log) = &self.worker.log else { return };
        let unit = self.routed.as_ref().and_then(|routed| match routed.target {
            RoutingTarget::Unit(unit) => routed.view.compiled.units.get(unit),
            RoutingTarget::Application(_) => None,
        });
        let entry = Entry {
            client: self.client.peer,
            mesh: self.client.is_gateway(),
            method: request.method.clone(),
            path: request.uri.path().to_owned(),
            status: status.as_u16(),
            took,
            held: self.notes.held,
            attempts: self.notes.attempts,
            unit: unit.map(|unit| (unit.unit.clone(), unit.epoch)),
            upstream: self.notes.upstream,
        };
        if !log.write(entry) {
            self.worker.counts.log_dropped.add(1);
        }
    }

    /// Writes down what a client was told about a write it can retry. Another gateway's client is told there.
    fn tell(&self, request: &request::Parts, status: StatusCode) {
        let Some(answers) = self.worker.answers.as_ref().filter(|_| !self.client.is_gateway()) else {
            return;
        };
        let Some(Routed { view, target: RoutingTarget::Unit(unit) }) = &self.routed else { return };
        let key = request.headers.get(HEADER_IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok());
        let (Some(key), Some(unit)) = (key, view.compiled.units.get(*unit)) else { return };
        let told = Told {
            at: SystemTime::now(),
            unit: unit.unit.clone(),
            epoch: unit.epoch,
            key: key.to_owned(),
            status: status.as_u16(),
        };
        if !answers.write(told) {
            self.worker.counts.answers_dropped.add(1);
        }
    }
}
