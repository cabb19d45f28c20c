//! Accounts and their entries.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use dujiang_routing::AccountNumber;
use dujiang_sdk::{Code, Failure, Outcome, Problem, Rejection, Reply, Transaction, UnitContext, Work, Write};
use dujiang_types::{Currency, Money, Slot};
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::ledger::PostingKind;
use crate::{customers, input};

/// Accounts of one customer: they are listed without pages.
const ACCOUNTS_MAX: i64 = 100;
/// Entries of a page, unless asked otherwise.
const PAGE_DEFAULT: u16 = 50;
/// Most entries of a page.
const PAGE_MAX: u16 = 500;

/// Locked, so that the number of accounts can be counted.
const CUSTOMER: &str = "SELECT FROM customers WHERE customer = $1 FOR NO KEY UPDATE";
const COUNT: &str = "SELECT count(*) FROM accounts WHERE customer = $1";
const SERIAL: &str = "SELECT nextval('account_serial')";
const OPEN: &str = "INSERT INTO accounts (account, customer, currency, limit_minor) VALUES ($1, $2, $3, $4)";
const FIND: &str =
    "SELECT account, customer, currency, limit_minor, balance_minor FROM accounts WHERE account = $1";
const ENTRIES: &str = "
    SELECT entry, posting, kind, entries.amount_minor, entries.currency, balance_after, text,
        (extract(epoch FROM postings.created_at) * 1000000)::bigint AS created_us
    FROM entries JOIN postings USING (posting)
    WHERE entries.account = $1 AND entry < $2 ORDER BY entry DESC LIMIT $3";

/// An account to be opened.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountRequest {
    /// ISO 4217 code.
    #[schema(example = "CNY")]
    currency: String,
    /// How far below zero the balance may go: not above zero.
    #[serde(default)]
    #[schema(maximum = 0)]
    limit_minor: i64,
}

/// An account.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names are the API's")]
pub(crate) struct Account {
    /// Account number.
    #[schema(example = "000010000000000019")]
    account: String,
    /// Its customer.
    customer: String,
    /// ISO 4217 code.
    currency: Currency,
    /// The balance is never below this.
    limit: Money,
    /// Sum of all entries.
    balance: Money,
}

impl Account {
    pub(crate) fn of(row: &Row) -> Result<Self, Failure> {
        let currency = currency_of(row)?;
        Ok(Self {
            account: row.try_get("account")?,
            customer: row.try_get("customer")?,
            currency,
            limit: Money::new(row.try_get("limit_minor")?, currency),
            balance: Money::new(row.try_get("balance_minor")?, currency),
        })
    }
}

pub(crate) fn currency_of(row: &Row) -> Result<Currency, Failure> {
    row.try_get::<_, &str>("currency")?
        .parse()
        .map_err(|_| Failure::internal("a row has an unknown currency"))
}

pub(crate) fn created_at(row: &Row) -> Result<Timestamp, Failure> {
    Timestamp::from_microsecond(row.try_get("created_us")?)
        .map_err(|error| Failure::internal(error.to_string()))
}

struct Open<'a> {
    customer: &'a str,
    slot: Slot,
    currency: Currency,
    limit_minor: i64,
}

impl Work for Open<'_> {
    type Output = Outcome;
    async fn run(&self, tx: &Transaction) -> Result<Outcome, Failure> {
        if tx.query_opt(CUSTOMER, &[&self.customer]).await?.is_none() {
            return Err(customers::not_found(self.customer));
        }
        let count: i64 = one(tx.query_opt(COUNT, &[&self.customer]).await?)?;
        if count >= ACCOUNTS_MAX {
            let detail = format!("a customer has at most {ACCOUNTS_MAX} accounts");
            return Err(Failure::refused(Code::Refused, detail));
        }
        let serial: i64 = one(tx.query_opt(SERIAL, &[]).await?)?;
        let number = u64::try_from(serial).ok().and_then(|serial| AccountNumber::new(self.slot, serial));
        let number =
            number.ok_or_else(|| Failure::internal("the unit's account numbers are used up"))?.to_string();
        let code = self.currency.code();
        tx.query(OPEN, &[&number, &self.customer, &code, &self.limit_minor]).await?;
        let account = Account {
            account: number,
            customer: self.customer.to_owned(),
            currency: self.currency,
            limit: Money::new(self.limit_minor, self.currency),
            balance: Money::zero(self.currency),
        };
        Outcome::json(StatusCode::CREATED, &account)
    }
}

fn one(row: Option<Row>) -> Result<i64, Failure> {
    let row = row.ok_or_else(|| Failure::internal("a row is missing"))?;
    Ok(row.try_get(0)?)
}

/// Opens an account.
#[utoipa::path(
    post, path = "/v1/customers/{customer}/accounts", tag = "accounts", request_body = AccountRequest,
    params(
        ("customer" = String, Path, description = "Customer number"),
        ("Idempotency-Key" = String, Header, description = "Fresh for every new write"),
    ),
    responses(
        (status = 201, description = "Opened", body = Account),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not done, or not known", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn open_account(
    context: UnitContext,
    Path(customer): Path<String>,
    write: Write<AccountRequest>,
) -> Result<Reply, Rejection> {
    let currency = input::currency(&write.body.currency)?;
    let limit_minor = input::limit(write.body.limit_minor)?;
    let slot = input::own_customer(&context, &customer)?;
    let work = Open { customer: &customer, slot, currency, limit_minor };
    Ok(context.once(&write.key, &work).await?)
}

struct Get {
    account: AccountNumber,
}

impl Work for Get {
    type Output = Account;
    async fn run(&self, tx: &Transaction) -> Result<Account, Failure> {
        let row = tx.query_opt(FIND, &[&self.account.to_string()]).await?;
        Account::of(&row.ok_or_else(|| not_found(self.account))?)
    }
}

pub(crate) fn not_found(account: AccountNumber) -> Failure {
    Failure::refused(Code::AccountNotFound, format!("there is no account {account}"))
}

/// An account with its balance.
#[utoipa::path(
    get, path = "/v1/accounts/{account}", tag = "accounts",
    params(("account" = String, Path, description = "Account number")),
    responses(
        (status = 200, description = "The account", body = Account),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not available", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_account(
    context: UnitContext,
    Path(account): Path<String>,
) -> Result<Json<Account>, Rejection> {
    let account = input::own_account(&context, &account)?;
    Ok(Json(context.read(&Get { account }).await?))
}

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// Entries older than this one; `next_before` of the page before.
    before: Option<i64>,
    /// How many, 1 to 500; 50 if not said.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u16>,
}

/// An entry of an account.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names are the API's")]
pub(crate) struct Entry {
    /// Rises with every entry of an account.
    entry: i64,
    /// The posting it belongs to.
    posting: Uuid,
    /// What the posting is.
    kind: PostingKind,
    /// Above zero: put in. Below zero: taken out.
    amount: Money,
    /// Balance right after it.
    balance_after: Money,
    /// What was written to it.
    text: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// A page of an account's entries, newest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Entries {
    /// The entries.
    entries: Vec<Entry>,
    /// Give this as `before` to get the next page. Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_before: Option<i64>,
}

impl Entry {
    fn of(row: &Row) -> Result<Self, Failure> {
        let currency = currency_of(row)?;
        Ok(Self {
            entry: row.try_get("entry")?,
            posting: row.try_get("posting")?,
            kind: PostingKind::parse(row.try_get("kind")?)?,
            amount: Money::new(row.try_get("amount_minor")?, currency),
            balance_after: Money::new(row.try_get("balance_after")?, currency),
            text: row.try_get("text")?,
            created_at: created_at(row)?,
        })
    }
}

struct List {
    account: AccountNumber,
    before: i64,
    limit: u16,
}

impl Work for List {
    type Output = Entries;
    async fn run(&self, tx: &Transaction) -> Result<Entries, Failure> {
        let account = self.account.to_string();
        if tx.query_opt(FIND, &[&account]).await?.is_none() {
            return Err(not_found(self.account));
        }
        // One more than asked for tells whether there is a next page.
        let rows = tx.query(ENTRIES, &[&account, &self.before, &(i64::from(self.limit) + 1)]).await?;
        let more = rows.len() > usize::from(self.limit);
        let entries =
            rows.iter().take(usize::from(self.limit)).map(Entry::of).collect::<Result<Vec<_>, _>>()?;
        let next_before = entries.last().filter(|_| more).map(|last| last.entry);
        Ok(Entries { entries, next_before })
    }
}

/// Entries of an account, newest first.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/entries", tag = "accounts",
    params(("account" = String, Path, description = "Account number"), Page),
    responses(
        (status = 200, description = "A page of entries", body = Entries),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not available", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_entries(
    context: UnitContext,
    Path(account): Path<String>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Entries>, Rejection> {
    let Query(page) = page.map_err(|error| Rejection::new(Code::RequestInvalid, error.body_text()))?;
    let limit = page.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Rejection::new(Code::RequestInvalid, format!("limit is from 1 to {PAGE_MAX}")));
    }
    let account = input::own_account(&context, &account)?;
    let work = List { account, before: page.before.unwrap_or(i64::MAX), limit };
    Ok(Json(context.read(&work).await?))
}
