//! What a customer can ask of the bank, as it goes over HTTP.

use dujiang_routing::{AccountNumber, slot_of};
use dujiang_types::{Currency, Money, Slot};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A request to the bank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// Becomes a customer.
    OpenCustomer {
        /// Customer number, the routing key.
        customer: String,
        /// Name.
        name: String,
    },
    /// Opens an account.
    OpenAccount {
        /// Whose.
        customer: String,
        /// In which currency.
        currency: Currency,
        /// Lowest balance allowed, 0 or negative.
        limit_minor: i64,
    },
    /// Pays in cash.
    Deposit {
        /// Account number.
        account: String,
        /// How much.
        amount: Money,
    },
    /// Pays to another account, of this unit or another.
    Transfer {
        /// Account number of the payer.
        from: String,
        /// Account number of the payee.
        to: String,
        /// How much.
        amount: Money,
    },
    /// Takes back a posting.
    Reversal {
        /// Account number the posting is reached by.
        account: String,
        /// The posting.
        posting: String,
    },
    /// Looks up a balance.
    Balance {
        /// Account number.
        account: String,
    },
}

impl Request {
    /// HTTP method.
    pub fn method(&self) -> Method {
        match self {
            Self::OpenCustomer { .. } => Method::PUT,
            Self::Balance { .. } => Method::GET,
            _ => Method::POST,
        }
    }

    /// Path below the gateway's address.
    pub fn path(&self) -> String {
        match self {
            Self::OpenCustomer { customer, .. } => format!("/v1/customers/{customer}"),
            Self::OpenAccount { customer, .. } => format!("/v1/customers/{customer}/accounts"),
            Self::Deposit { account, .. } => format!("/v1/accounts/{account}/deposits"),
            Self::Transfer { from, .. } => format!("/v1/accounts/{from}/transfers"),
            Self::Reversal { account, posting } => {
                format!("/v1/accounts/{account}/postings/{posting}/reversal")
            }
            Self::Balance { account } => format!("/v1/accounts/{account}"),
        }
    }

    /// JSON body, if there is one.
    pub fn body(&self) -> Option<Value> {
        match self {
            Self::OpenCustomer { name, .. } => Some(json!({ "name": name })),
            Self::OpenAccount { currency, limit_minor, .. } => {
                Some(json!({ "currency": currency, "limit_minor": limit_minor }))
            }
            Self::Deposit { amount, .. } => Some(json!({ "amount": amount })),
            Self::Transfer { to, amount, .. } => Some(json!({ "to": to, "amount": amount })),
            Self::Reversal { .. } | Self::Balance { .. } => None,
        }
    }

    /// True if it changes something, and so carries an idempotency key.
    pub fn is_write(&self) -> bool {
        !matches!(self, Self::Balance { .. })
    }

    /// True if money moves: what is meant by a payment.
    pub fn moves_money(&self) -> bool {
        matches!(self, Self::Deposit { .. } | Self::Transfer { .. } | Self::Reversal { .. })
    }

    /// Slot it is routed by; `None` if the account number in it is not one.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::OpenCustomer { customer, .. } | Self::OpenAccount { customer, .. } => {
                Some(slot_of(customer.as_bytes()))
            }
            Self::Deposit { account, .. }
            | Self::Transfer { from: account, .. }
            | Self::Reversal { account, .. }
            | Self::Balance { account } => account.parse::<AccountNumber>().ok().map(AccountNumber::slot),
        }
    }
}
