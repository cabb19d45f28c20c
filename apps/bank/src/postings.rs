//! Looking at a posting, and reversing it.

use axum::Json;
use axum::extract::Path;
use dujiang_routing::AccountNumber;
use dujiang_sdk::{Code, Failure, Outcome, Problem, Rejection, Reply, Transaction, UnitContext, Work, Write};
use dujiang_types::Money;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::accounts::{created_at, currency_of};
use crate::input;
use crate::ledger::{CASH, Leg, Order, PostingKind, PostingState, lock, post};
use crate::transfers::{Receipt, receipt};

/// Only a posting with an entry in the account is there for it.
const FIND: &str = "
    SELECT posting, kind, state, account, to_account, amount_minor, currency, text, peer_posting, reverses, reason,
        (SELECT posting FROM postings AS later WHERE later.reverses = postings.posting) AS reversed_by,
        (extract(epoch FROM created_at) * 1000000)::bigint AS created_us
    FROM postings
    WHERE posting = $1 AND EXISTS (SELECT FROM entries WHERE entries.posting = $1 AND entries.account = $2)";
const ENTRIES: &str = "SELECT account, amount_minor, currency FROM entries WHERE posting = $1 ORDER BY entry";
/// Postings are locked before accounts, by everybody.
const LOCK: &str = "
    SELECT kind, state, account, to_account, amount_minor, currency FROM postings
    WHERE posting = $1 AND EXISTS (SELECT FROM entries WHERE entries.posting = $1 AND entries.account = $2)
    FOR NO KEY UPDATE";
const REVERSED: &str = "UPDATE postings SET state = 'reversed' WHERE posting = $1";

/// A posting.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names are the API's")]
pub(crate) struct Posting {
    /// Id, kind and state.
    #[serde(flatten)]
    receipt: Receipt,
    /// Whose order it was.
    account: String,
    /// The receiver of a transfer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    /// How much.
    amount: Money,
    /// What was written to it.
    text: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The paying side's posting in another unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peer_posting: Option<Uuid>,
    /// The posting this one undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reverses: Option<Uuid>,
    /// The posting that undoes this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reversed_by: Option<Uuid>,
    /// Why another unit has refused it, as a problem's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Two or more; they sum to zero.
    entries: Vec<PostingEntry>,
}

/// An entry of a posting.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct PostingEntry {
    /// Account number, `cash` or `in_transit`.
    account: String,
    /// Above zero: put in. Below zero: taken out.
    amount: Money,
}

impl Posting {
    fn of(row: &Row, entries: &[Row]) -> Result<Self, Failure> {
        let entries = entries.iter().map(|row| {
            let amount = Money::new(row.try_get("amount_minor")?, currency_of(row)?);
            Ok(PostingEntry { account: row.try_get("account")?, amount })
        });
        Ok(Self {
            receipt: Receipt {
                posting: row.try_get("posting")?,
                kind: PostingKind::parse(row.try_get("kind")?)?,
                state: PostingState::parse(row.try_get("state")?)?,
            },
            account: row.try_get("account")?,
            to: row.try_get("to_account")?,
            amount: Money::new(row.try_get("amount_minor")?, currency_of(row)?),
            text: row.try_get("text")?,
            created_at: created_at(row)?,
            peer_posting: row.try_get("peer_posting")?,
            reverses: row.try_get("reverses")?,
            reversed_by: row.try_get("reversed_by")?,
            reason: row.try_get("reason")?,
            entries: entries.collect::<Result<_, Failure>>()?,
        })
    }
}

fn not_found(posting: Uuid) -> Failure {
    Failure::refused(Code::PostingNotFound, format!("the account has no posting {posting}"))
}

struct Get {
    account: AccountNumber,
    posting: Uuid,
}

impl Work for Get {
    type Output = Posting;
    async fn run(&self, tx: &Transaction) -> Result<Posting, Failure> {
        let row = tx.query_opt(FIND, &[&self.posting, &self.account.to_string()]).await?;
        let row = row.ok_or_else(|| not_found(self.posting))?;
        Posting::of(&row, &tx.query(ENTRIES, &[&self.posting]).await?)
    }
}

/// A posting with its entries.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/postings/{posting}", tag = "postings",
    params(
        ("account" = String, Path, description = "Account number"),
        ("posting" = String, Path, description = "Id of a posting with an entry in the account"),
    ),
    responses(
        (status = 200, description = "The posting", body = Posting),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not available", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_posting(
    context: UnitContext,
    Path((account, posting)): Path<(String, String)>,
) -> Result<Json<Posting>, Rejection> {
    let account = input::own_account(&context, &account)?;
    let posting = input::posting(&posting)?;
    Ok(Json(context.read(&Get { account, posting }).await?))
}

/// A reversal.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReversalRequest {
    /// What for, at most 140 characters.
    #[serde(default)]
    text: String,
}

struct Reverse<'a> {
    account: AccountNumber,
    posting: Uuid,
    text: &'a str,
    key: &'a str,
}

impl Work for Reverse<'_> {
    type Output = Outcome;
    async fn run(&self, tx: &Transaction) -> Result<Outcome, Failure> {
        let row = tx.query_opt(LOCK, &[&self.posting, &self.account.to_string()]).await?;
        let row = row.ok_or_else(|| not_found(self.posting))?;
        let kind = PostingKind::parse(row.try_get("kind")?)?;
        if PostingState::parse(row.try_get("state")?)? == PostingState::Reversed {
            return Err(Failure::refused(Code::NotReversible, "it is reversed already"));
        }
        let minor: i64 = row.try_get("amount_minor")?;
        let account = number(row.try_get("account")?)?;
        let legs = match kind {
            PostingKind::Deposit => {
                let [account] = lock(tx, [account]).await?;
                [account.debit(minor)?, Leg::house(CASH, minor)]
            }
            PostingKind::Transfer => {
                let to: Option<&str> = row.try_get("to_account")?;
                let [from, to] = lock(tx, [account, number(to.unwrap_or_default())?]).await?;
                [to.debit(minor)?, from.credit(minor)?]
            }
            _ => {
                let detail =
                    format!("a {kind} cannot be reversed; only a deposit and a transfer within the unit can");
                return Err(Failure::refused(Code::NotReversible, detail));
            }
        };
        let own = self.account.to_string();
        let order = Order {
            posting: Uuid::now_v7(),
            kind: PostingKind::Reversal,
            state: PostingState::Completed,
            account: &own,
            to_account: None,
            amount: Money::new(minor, currency_of(&row)?),
            text: self.text,
            key: Some(self.key),
            peer: None,
            reverses: Some(self.posting),
        };
        post(tx, &order, &legs).await?;
        tx.query(REVERSED, &[&self.posting]).await?;
        receipt(StatusCode::CREATED, &order)
    }
}

fn number(text: &str) -> Result<AccountNumber, Failure> {
    text.parse().map_err(|_| Failure::internal("a posting has a malformed account"))
}

/// Reverses a deposit, or a transfer within the unit. Once.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/postings/{posting}/reversal", tag = "postings",
    request_body = ReversalRequest,
    params(
        ("account" = String, Path, description = "Account number"),
        ("posting" = String, Path, description = "Id of a posting with an entry in the account"),
        ("Idempotency-Key" = String, Header, description = "Fresh for every new write"),
    ),
    responses(
        (status = 201, description = "Reversed by this posting", body = Receipt),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not done, or not known", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn reverse(
    context: UnitContext,
    Path((account, posting)): Path<(String, String)>,
    write: Write<ReversalRequest>,
) -> Result<Reply, Rejection> {
    let text = input::text(&write.body.text)?;
    let account = input::own_account(&context, &account)?;
    let posting = input::posting(&posting)?;
    let work = Reverse { account, posting, text, key: write.key.as_str() };
    Ok(context.once(&write.key, &work).await?)
}
