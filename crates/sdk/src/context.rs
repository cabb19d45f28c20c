//! The unit and epoch a request was routed under.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use dujiang_types::api::{HEADER_EPOCH, HEADER_UNIT};
use dujiang_types::{Code, Epoch, Slot, UnitId};
use http::HeaderMap;
use http::request::Parts;

use crate::failure::Failure;
use crate::idempotency::{self, CLIENT, Outcome, Reply, RequestKey};
use crate::metrics::Metrics;
use crate::problem::Rejection;
use crate::transaction::{self, Mode, Work};
use crate::units::{Unit, Units};

/// Where a request belongs: extractor of every handler that touches a unit's data.
#[derive(Clone)]
pub struct UnitContext {
    pub(crate) unit: Arc<Unit>,
    pub(crate) epoch: Epoch,
    pub(crate) units: Units,
    pub(crate) metrics: Arc<Metrics>,
}

/// What the layer needs.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) units: Units,
    pub(crate) metrics: Arc<Metrics>,
}

/// Layer around the routes of units: refuses what did not come through a gateway or is not for a unit known here.
pub(crate) async fn enter(
    State(surroundings): State<Surroundings>,
    mut request: Request,
    next: Next,
) -> Result<Response, Rejection> {
    // A gateway computes the slot from the path's bytes, we from the decoded key: they must not differ.
    if request.uri().path().contains('%') {
        return Err(Rejection::new(Code::RequestInvalid, "percent-encoding is not used in these paths"));
    }
    let unit: UnitId = header(request.headers(), HEADER_UNIT)?;
    let epoch: u64 = header(request.headers(), HEADER_EPOCH)?;
    let Some(unit) = surroundings.units.unit(&unit) else {
        return Err(Failure::not_done(Code::UnitMoved, format!("no unit {unit} is known here")).into());
    };
    let Surroundings { units, metrics } = surroundings;
    request.extensions_mut().insert(UnitContext { unit, epoch: Epoch(epoch), units, metrics });
    Ok(next.run(request).await)
}

fn header<T: std::str::FromStr>(headers: &HeaderMap, name: &'static str) -> Result<T, Rejection> {
    let value = headers.get(name).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    value.ok_or_else(|| {
        Rejection::new(
            Code::RequestInvalid,
            format!("{name} is missing or wrong: send the request to a gateway"),
        )
    })
}

impl<S: Sync> FromRequestParts<S> for UnitContext {
    type Rejection = Rejection;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
        let context = parts.extensions.get::<Self>().cloned();
        context.ok_or_else(|| Rejection::new(Code::Internal, "the route lacks the unit layer"))
    }
}

impl UnitContext {
    /// The unit.
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// The epoch the request was routed under.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Refuses a key whose slot the unit does not own: it was routed by an older table.
    pub fn require(&self, slot: Slot) -> Result<(), Failure> {
        if self.unit.owns(slot) {
            return Ok(());
        }
        // Ours may be the older one.
        if let Err(error) = self.units.refresh() {
            tracing::warn!(error = &error as &dyn std::error::Error, "units file");
        }
        if self.units.unit(self.unit.name()).is_some_and(|unit| unit.owns(slot)) {
            return Ok(());
        }
        let detail = format!("{} does not own slot {}", self.unit.name(), slot.get());
        Err(Failure::not_done(Code::UnitMoved, detail))
    }

    /// Runs the work in a read-only transaction: one snapshot of the unit under the request's epoch.
    pub async fn read<W: Work>(&self, work: &W) -> Result<W::Output, Failure> {
        transaction::run(&self.unit, self.epoch, Mode::Read, &self.metrics, work).await
    }

    /// Runs the work in a transaction under the request's epoch and commits it.
    ///
    /// For writes a client can retry use [`UnitContext::once`].
    pub async fn write<W: Work>(&self, work: &W) -> Result<W::Output, Failure> {
        let done = transaction::run(&self.unit, self.epoch, Mode::Write, &self.metrics, work).await;
        self.count_unknown(done)
    }

    /// Runs the work at most once for this key, and answers every repetition with the first outcome. A refusal is
    /// an outcome as well.
    pub async fn once<W: Work<Output = Outcome>>(
        &self,
        key: &RequestKey,
        work: &W,
    ) -> Result<Reply, Failure> {
        let reply = idempotency::once(&self.unit, self.epoch, &self.metrics, &CLIENT, key, work).await;
        self.count_unknown(reply)
    }

    pub(crate) fn count_unknown<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        if matches!(result, Err(Failure::Unknown { .. })) {
            self.metrics.unknown.inc();
        }
        result
    }
}
