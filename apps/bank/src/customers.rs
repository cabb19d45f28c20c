//! Customers.

use axum::Json;
use axum::extract::Path;
use dujiang_sdk::{Code, Failure, Outcome, Problem, Rejection, Reply, Transaction, UnitContext, Work, Write};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::Account;
use crate::input;

/// `xmax` is zero in a row that was inserted, not updated.
const PUT: &str = "
    INSERT INTO customers (customer, name) VALUES ($1, $2)
    ON CONFLICT (customer) DO UPDATE SET name = excluded.name RETURNING xmax = 0";
const FIND: &str = "SELECT name FROM customers WHERE customer = $1";
const ACCOUNTS: &str = "
    SELECT account, customer, currency, limit_minor, balance_minor FROM accounts WHERE customer = $1
    ORDER BY account";

/// A customer to be opened or renamed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CustomerRequest {
    /// Name, 1 to 200 characters.
    #[schema(example = "Li Bing", max_length = 200)]
    name: String,
}

/// A customer.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Customer {
    /// Customer number.
    customer: String,
    /// Name.
    name: String,
}

/// A customer and the accounts.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct CustomerWithAccounts {
    /// The customer.
    #[serde(flatten)]
    customer: Customer,
    /// Accounts, by number.
    accounts: Vec<Account>,
}

struct Put<'a> {
    customer: &'a str,
    name: &'a str,
}

impl Work for Put<'_> {
    type Output = Outcome;
    async fn run(&self, tx: &Transaction) -> Result<Outcome, Failure> {
        let rows = tx.query(PUT, &[&self.customer, &self.name]).await?;
        let made = rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false);
        let status = if made { StatusCode::CREATED } else { StatusCode::OK };
        Outcome::json(status, &Customer { customer: self.customer.to_owned(), name: self.name.to_owned() })
    }
}

/// Opens a customer, or renames one.
#[utoipa::path(
    put, path = "/v1/customers/{customer}", tag = "customers", request_body = CustomerRequest,
    params(
        ("customer" = String, Path, description = "Customer number: 1 to 32 of A-Z, a-z, 0-9, '-'"),
        ("Idempotency-Key" = String, Header, description = "Fresh for every new write"),
    ),
    responses(
        (status = 201, description = "Opened", body = Customer),
        (status = 200, description = "Renamed", body = Customer),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not done, or not known", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put_customer(
    context: UnitContext,
    Path(customer): Path<String>,
    write: Write<CustomerRequest>,
) -> Result<Reply, Rejection> {
    let name = input::name(&write.body.name)?;
    input::own_customer(&context, &customer)?;
    Ok(context.once(&write.key, &Put { customer: &customer, name }).await?)
}

struct Get<'a> {
    customer: &'a str,
}

impl Work for Get<'_> {
    type Output = CustomerWithAccounts;
    async fn run(&self, tx: &Transaction) -> Result<CustomerWithAccounts, Failure> {
        let Some(row) = tx.query_opt(FIND, &[&self.customer]).await? else {
            return Err(not_found(self.customer));
        };
        let accounts = tx.query(ACCOUNTS, &[&self.customer]).await?;
        Ok(CustomerWithAccounts {
            customer: Customer { customer: self.customer.to_owned(), name: row.try_get(0)? },
            accounts: accounts.iter().map(Account::of).collect::<Result<_, _>>()?,
        })
    }
}

pub(crate) fn not_found(customer: &str) -> Failure {
    Failure::refused(Code::CustomerNotFound, format!("there is no customer {customer}"))
}

/// A customer with the accounts.
#[utoipa::path(
    get, path = "/v1/customers/{customer}", tag = "customers",
    params(("customer" = String, Path, description = "Customer number")),
    responses(
        (status = 200, description = "The customer", body = CustomerWithAccounts),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not available", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_customer(
    context: UnitContext,
    Path(customer): Path<String>,
) -> Result<Json<CustomerWithAccounts>, Rejection> {
    input::own_customer(&context, &customer)?;
    Ok(Json(context.read(&Get { customer: &customer }).await?))
}
