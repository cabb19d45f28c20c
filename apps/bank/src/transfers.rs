//! Deposits and transfers, within a unit and across units.

use axum::extract::Path;
use dujiang_routing::AccountNumber;
use dujiang_sdk::{
    Code, Failure, Message, MessageOutcome, Outcome, Problem, Rejection, Reply, Transaction, Unit,
    UnitContext, Work, Write,
};
use dujiang_types::Money;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::input::{self, Amount};
use crate::ledger::{CASH, IN_TRANSIT, Leg, Order, PostingKind, PostingState, lock, post};

/// The one kind of message the bank sends.
const CREDIT: &str = "credit";

const OUTGOING: &str = "
    SELECT account, state FROM postings WHERE posting = $1 AND kind = 'transfer_out' FOR NO KEY UPDATE";
const COMPLETE: &str = "UPDATE postings SET state = 'completed' WHERE posting = $1";
const REVERSE: &str = "UPDATE postings SET state = 'reversed', reason = $2 WHERE posting = $1";

/// Cash paid in.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DepositRequest {
    /// How much.
    amount: Amount,
    /// What for, at most 140 characters.
    #[serde(default)]
    text: String,
}

/// A payment to another account.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TransferRequest {
    /// Account number of the receiver.
    to: String,
    /// How much.
    amount: Amount,
    /// What for, at most 140 characters.
    #[serde(default)]
    text: String,
}

/// What a write came to.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Receipt {
    /// Id of the posting.
    pub(crate) posting: Uuid,
    /// What the posting is.
    pub(crate) kind: PostingKind,
    /// Where it stands.
    pub(crate) state: PostingState,
}

/// What another unit is asked to credit.
#[derive(Debug, Serialize, Deserialize)]
struct Credit {
    from: String,
    amount: Money,
    text: String,
}

struct Deposit<'a> {
    account: AccountNumber,
    amount: Money,
    text: &'a str,
    key: &'a str,
}

impl Work for Deposit<'_> {
    type Output = Outcome;
    async fn run(&self, tx: &Transaction) -> Result<Outcome, Failure> {
        let [account] = lock(tx, [self.account]).await?;
        account.require(self.amount.currency)?;
        let order = Order {
            posting: Uuid::now_v7(),
            kind: PostingKind::Deposit,
            state: PostingState::Completed,
            account: &account.account,
            to_account: None,
            amount: self.amount,
            text: self.text,
            key: Some(self.key),
            peer: None,
            reverses: None,
        };
        let minor = self.amount.minor;
        post(tx, &order, &[Leg::house(CASH, -minor), account.credit(minor)?]).await?;
        receipt(StatusCode::CREATED, &order)
    }
}

pub(crate) fn receipt(status: StatusCode, order: &Order<'_>) -> Result<Outcome, Failure> {
    Outcome::json(status, &Receipt { posting: order.posting, kind: order.kind, state: order.state })
}

/// Pays cash in.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/deposits", tag = "postings", request_body = DepositRequest,
    params(
        ("account" = String, Path, description = "Account number"),
        ("Idempotency-Key" = String, Header, description = "Fresh for every new write"),
    ),
    responses(
        (status = 201, description = "Posted", body = Receipt),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not done, or not known", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn deposit(
    context: UnitContext,
    Path(account): Path<String>,
    write: Write<DepositRequest>,
) -> Result<Reply, Rejection> {
    let amount = write.body.amount.check()?;
    let text = input::text(&write.body.text)?;
    let account = input::own_account(&context, &account)?;
    Ok(context.once(&write.key, &Deposit { account, amount, text, key: write.key.as_str() }).await?)
}

struct Transfer<'a> {
    unit: &'a Unit,
    from: AccountNumber,
    to: AccountNumber,
    amount: Money,
    text: &'a str,
    key: &'a str,
}

impl Work for Transfer<'_> {
    type Output = Outcome;
    async fn run(&self, tx: &Transaction) -> Result<Outcome, Failure> {
        if self.unit.owns(self.to.slot()) { self.within(tx).await } else { self.across(tx).await }
    }
}

impl Transfer<'_> {
    async fn within(&self, tx: &Transaction) -> Result<Outcome, Failure> {
        let [from, to] = lock(tx, [self.from, self.to]).await?;
        from.require(self.amount.currency)?;
        to.require(self.amount.currency)?;
        let order = self.order(PostingKind::Transfer, PostingState::Completed, &from.account, &to.account);
        let minor = self.amount.minor;
        post(tx, &order, &[from.debit(minor)?, to.credit(minor)?]).await?;
        receipt(StatusCode::CREATED, &order)
    }

    /// Takes the money out and writes the message that has it put in elsewhere, or neither.
    async fn across(&self, tx: &Transaction) -> Result<Outcome, Failure> {
        let [from] = lock(tx, [self.from]).await?;
        from.require(self.amount.currency)?;
        let to = self.to.to_string();
        let order = self.order(PostingKind::TransferOut, PostingState::InTransit, &from.account, &to);
        let minor = self.amount.minor;
        post(tx, &order, &[from.debit(minor)?, Leg::house(IN_TRANSIT, minor)]).await?;
        let credit = Credit { from: from.account.clone(), amount: self.amount, text: self.text.to_owned() };
        let payload = serde_json::to_value(credit).map_err(|error| Failure::internal(error.to_string()))?;
        tx.send(order.posting, &to, CREDIT, &payload).await?;
        receipt(StatusCode::ACCEPTED, &order)
    }

    fn order<'a>(&'a self, kind: PostingKind, state: PostingState, from: &'a str, to: &'a str) -> Order<'a> {
        Order {
            posting: Uuid::now_v7(),
            kind,
            state,
            account: from,
            to_account: Some(to),
            amount: self.amount,
            text: self.text,
            key: Some(self.key),
            peer: None,
            reverses: None,
        }
    }
}

/// Pays to another account: at once within the unit, by a message to another unit.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/transfers", tag = "postings", request_body = TransferRequest,
    params(
        ("account" = String, Path, description = "Account number of the payer"),
        ("Idempotency-Key" = String, Header, description = "Fresh for every new write"),
    ),
    responses(
        (status = 201, description = "Posted within the unit", body = Receipt),
        (status = 202, description = "On its way to another unit; look at the posting", body = Receipt),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not done, or not known", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn transfer(
    context: UnitContext,
    Path(account): Path<String>,
    write: Write<TransferRequest>,
) -> Result<Reply, Rejection> {
    let amount = write.body.amount.check()?;
    let text = input::text(&write.body.text)?;
    let to = input::account(&write.body.to)?;
    let from = input::own_account(&context, &account)?;
    if from == to {
        return Err(Rejection::new(Code::RequestInvalid, "payer and receiver are the same account"));
    }
    let work = Transfer { unit: context.unit(), from, to, amount, text, key: write.key.as_str() };
    Ok(context.once(&write.key, &work).await?)
}

/// The receiving side of a transfer across units.
pub(crate) async fn receive(tx: &Transaction, unit: &Unit, message: &Message) -> Result<(), Failure> {
    // A kind of a newer release is not refused: an instance of that release will know it.
    if message.kind != CREDIT {
        return Err(Failure::not_done(Code::UnitUnavailable, format!("unknown kind {:?}", message.kind)));
    }
    let credit: Credit = serde_json::from_value(message.payload.clone())
        .map_err(|error| Failure::not_done(Code::UnitUnavailable, error.to_string()))?;
    let number = input::account(&message.to).map_err(Failure::Refused)?;
    if !unit.owns(number.slot()) {
        return Err(Failure::not_done(Code::UnitMoved, "the account is at home in another unit"));
    }
    let [account] = lock(tx, [number]).await?;
    account.require(credit.amount.currency)?;
    let order = Order {
        posting: Uuid::now_v7(),
        kind: PostingKind::TransferIn,
        state: PostingState::Completed,
        account: &account.account,
        to_account: None,
        amount: credit.amount,
        text: &credit.text,
        key: None,
        peer: Some(message.id),
        reverses: None,
    };
    let minor = credit.amount.minor;
    post(tx, &order, &[Leg::house(IN_TRANSIT, -minor), account.credit(minor)?]).await
}

/// The paying side, once the outcome is known: completes the transfer, or gives the money back.
pub(crate) async fn settle(
    tx: &Transaction,
    message: &Message,
    outcome: &MessageOutcome,
) -> Result<(), Failure> {
    let row = tx.query_opt(OUTGOING, &[&message.id]).await?;
    let row = row.ok_or_else(|| Failure::internal("a message has no posting"))?;
    if PostingState::parse(row.try_get("state")?)? != PostingState::InTransit {
        return Err(Failure::internal("a message is settled twice"));
    }
    match outcome {
        MessageOutcome::Applied => tx.query(COMPLETE, &[&message.id]).await.map(drop),
        MessageOutcome::Refused { code, .. } => {
            let account: AccountNumber = row
                .try_get::<_, &str>("account")?
                .parse()
                .map_err(|_| Failure::internal("a posting has a malformed account"))?;
            give_back(tx, account, message).await?;
            tx.query(REVERSE, &[&message.id, &code.as_str()]).await.map(drop)
        }
    }
}

async fn give_back(tx: &Transaction, account: AccountNumber, message: &Message) -> Result<(), Failure> {
    let credit: Credit = serde_json::from_value(message.payload.clone())
        .map_err(|error| Failure::internal(format!("our own message: {error}")))?;
    let [account] = lock(tx, [account]).await?;
    let order = Order {
        posting: Uuid::now_v7(),
        kind: PostingKind::TransitReturn,
        state: PostingState::Completed,
        account: &account.account,
        to_account: None,
        amount: credit.amount,
        text: &credit.text,
        key: None,
        peer: None,
        reverses: Some(message.id),
    };
    let minor = credit.amount.minor;
    post(tx, &order, &[Leg::house(IN_TRANSIT, -minor), account.give_back(minor)?]).await
}
