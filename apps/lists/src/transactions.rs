//! Transactions over the lists of one owner.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use axum::{Extension, Json};
use dujiang_routing::slot_of;
use dujiang_sdk::{Code, Failure, Outcome, Problem, Rejection, Reply, Transaction, UnitContext, Work, Write};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::planted::Planted;

/// Most steps of a transaction.
pub const STEPS_MAX: usize = 16;
/// Most lists read at once.
pub const LISTS_MAX: usize = 16;
/// Longest name of an owner.
const OWNER_LEN_MAX: usize = 32;

const MAKE: &str = "
    INSERT INTO lists (owner, list) SELECT $1, list FROM unnest($2::bigint[]) AS list ORDER BY list
    ON CONFLICT (owner, list) DO NOTHING";
/// In the order of their numbers, as all transactions do: none waits for another one in a circle.
const LOCK: &str =
    "SELECT list FROM lists WHERE owner = $1 AND list = ANY ($2) ORDER BY list FOR NO KEY UPDATE";
const READ: &str = "SELECT elements FROM lists WHERE owner = $1 AND list = $2";
const APPEND: &str = "UPDATE lists SET elements = elements || $3::bigint WHERE owner = $1 AND list = $2";
const PUT_BACK: &str = "UPDATE lists SET elements = $3 WHERE owner = $1 AND list = $2";

/// One thing to do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Step {
    /// Append an element to a list.
    Append {
        /// The list.
        #[schema(minimum = 0)]
        list: i64,
        /// The element.
        #[schema(minimum = 0)]
        element: i64,
    },
    /// Read a list.
    Read {
        /// The list.
        #[schema(minimum = 0)]
        list: i64,
    },
}

impl Step {
    fn list(self) -> i64 {
        let (Self::Append { list, .. } | Self::Read { list }) = self;
        list
    }
}

/// What to do in one transaction.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Steps {
    /// In this order, 1 to 16.
    steps: Vec<Step>,
}

/// What was read.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Answer {
    /// Each list that was asked for, in the order of asking.
    lists: Vec<Vec<i64>>,
}

/// Which lists to read.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Of {
    /// Their numbers, separated by commas, 1 to 16.
    of: String,
}

struct Transact<'a> {
    owner: &'a str,
    steps: &'a [Step],
    planted: &'a Planted,
}

impl Work for Transact<'_> {
    type Output = Outcome;
    async fn run(&self, tx: &Transaction) -> Result<Outcome, Failure> {
        let mut touched: Vec<i64> = self.steps.iter().map(|step| step.list()).collect();
        touched.sort_unstable();
        touched.dedup();
        tx.query(MAKE, &[&self.owner, &touched]).await?;
        if !self.planted.loses_updates() {
            tx.query(LOCK, &[&self.owner, &touched]).await?;
        }
        let mut lists = Vec::new();
        for step in self.steps {
            match *step {
                Step::Read { list } => lists.push(elements(tx, self.owner, list).await?),
                Step::Append { list, element } if self.planted.loses_updates() => {
                    let mut elements = elements(tx, self.owner, list).await?;
                    elements.push(element);
                    tx.query(PUT_BACK, &[&self.owner, &list, &elements]).await?;
                }
                Step::Append { list, element } => {
                    tx.query(APPEND, &[&self.owner, &list, &element]).await?;
                }
            }
        }
        Outcome::json(StatusCode::OK, &Answer { lists })
    }
}

/// A list as it is; one that nobody appended to is empty.
async fn elements(tx: &Transaction, owner: &str, list: i64) -> Result<Vec<i64>, Failure> {
    let row = tx.query_opt(READ, &[&owner, &list]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
}

/// Appends and reads in one transaction.
#[utoipa::path(
    post, path = "/v1/lists/{owner}/transactions", tag = "lists", request_body = Steps,
    params(
        ("owner" = String, Path, description = "Owner of the lists: 1 to 32 of A-Z, a-z, 0-9, '-'"),
        ("Idempotency-Key" = String, Header, description = "Fresh for every new write"),
    ),
    responses(
        (status = 200, description = "Done; what was read", body = Answer),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not done, or not known", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn transact(
    context: UnitContext,
    Extension(planted): Extension<Planted>,
    Path(owner): Path<String>,
    write: Write<Steps>,
) -> Result<Reply, Rejection> {
    let steps = &write.body.steps;
    require((1..=STEPS_MAX).contains(&steps.len()), "a transaction has 1 to 16 steps")?;
    let negative = steps.iter().any(|step| match *step {
        Step::Append { list, element } => list < 0 || element < 0,
        Step::Read { list } => list < 0,
    });
    require(!negative, "lists and elements are whole numbers from 0")?;
    own(&context, &owner)?;
    let work = Transact { owner: &owner, steps, planted: &planted };
    Ok(context.once(&write.key, &work).await?)
}

struct Read<'a> {
    owner: &'a str,
    lists: &'a [i64],
}

impl Work for Read<'_> {
    type Output = Vec<Vec<i64>>;
    async fn run(&self, tx: &Transaction) -> Result<Self::Output, Failure> {
        let mut lists = Vec::with_capacity(self.lists.len());
        for list in self.lists {
            lists.push(elements(tx, self.owner, *list).await?);
        }
        Ok(lists)
    }
}

/// Reads lists in one snapshot.
#[utoipa::path(
    get, path = "/v1/lists/{owner}", tag = "lists",
    params(("owner" = String, Path, description = "Owner of the lists"), Of),
    responses(
        (status = 200, description = "The lists", body = Answer),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not available", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn read(
    context: UnitContext,
    Extension(planted): Extension<Planted>,
    Path(owner): Path<String>,
    of: Result<Query<Of>, QueryRejection>,
) -> Result<Json<Answer>, Rejection> {
    let Query(of) = of.map_err(|error| Rejection::new(Code::RequestInvalid, error.body_text()))?;
    let numbers: Result<Vec<i64>, _> = of.of.split(',').map(str::parse).collect();
    let lists = numbers
        .ok()
        .filter(|lists| (1..=LISTS_MAX).contains(&lists.len()) && lists.iter().all(|list| *list >= 0));
    let Some(lists) = lists else {
        return Err(Rejection::new(Code::RequestInvalid, "of: 1 to 16 whole numbers, separated by commas"));
    };
    own(&context, &owner)?;
    let found = context.read(&Read { owner: &owner, lists: &lists }).await?;
    let aged = lists.iter().zip(found).map(|(list, fresh)| planted.aged(&owner, *list, fresh));
    Ok(Json(Answer { lists: aged.collect() }))
}

/// An owner of this unit.
fn own(context: &UnitContext, owner: &str) -> Result<(), Rejection> {
    let fits = (1..=OWNER_LEN_MAX).contains(&owner.len())
        && owner.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    require(fits, "an owner is 1 to 32 of A-Z, a-z, 0-9, '-'")?;
    Ok(context.require(slot_of(owner.as_bytes()))?)
}

fn require(holds: bool, detail: &str) -> Result<(), Rejection> {
    if holds { Ok(()) } else { Err(Rejection::new(Code::RequestInvalid, detail)) }
}
