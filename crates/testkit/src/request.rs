//! What a client can ask of the bank and of the lists, as it goes over HTTP.

use dujiang_routing::{AccountNumber, slot_of};
use dujiang_types::{Currency, Money, Slot};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One thing a transaction over lists does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Step {
    /// Appends an element to a list.
    Append {
        /// The list.
        list: u64,
        /// The element.
        element: u64,
    },
    /// Reads a list.
    Read {
        /// The list.
        list: u64,
    },
}

/// A request to an application.
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
    /// Appends to lists and reads them, in one transaction.
    Transact {
        /// Whose lists, the routing key.
        owner: String,
        /// In this order.
        steps: Vec<Step>,
    },
    /// Reads lists, in one snapshot.
    ReadLists {
        /// Whose lists, the routing key.
        owner: String,
        /// Which.
        lists: Vec<u64>,
    },
}

impl Request {
    /// HTTP method.
    pub fn method(&self) -> Method {
        match self {
            Self::OpenCustomer { .. } => Method::PUT,
            Self::Balance { .. } | Self::ReadLists { .. } => Method::GET,
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
            Self::Transact { owner, .. } => format!("/v1/lists/{owner}/transactions"),
            Self::ReadLists { owner, lists } => {
                let numbers: Vec<_> = lists.iter().map(u64::to_string).collect();
                format!("/v1/lists/{owner}?of={}", numbers.join(","))
            }
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
            Self::Transact { steps, .. } => Some(json!({ "steps": steps })),
            Self::Reversal { .. } | Self::Balance { .. } | Self::ReadLists { .. } => None,
        }
    }

    /// True if it changes something, and so carries an idempotency key.
    pub fn is_write(&self) -> bool {
        !matches!(self, Self::Balance { .. } | Self::ReadLists { .. })
    }

    /// True if money moves: what is meant by a payment.
    pub fn moves_money(&self) -> bool {
        matches!(self, Self::Deposit { .. } | Self::Transfer { .. } | Self::Reversal { .. })
    }

    /// How many lists it reads; `None` if it has nothing to do with lists.
    pub fn reads(&self) -> Option<usize> {
        match self {
            Self::Transact { steps, .. } => {
                Some(steps.iter().filter(|step| matches!(step, Step::Read { .. })).count())
            }
            Self::ReadLists { lists, .. } => Some(lists.len()),
            _ => None,
        }
    }

    /// Slot it is routed by; `None` if the account number in it is not one.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::OpenCustomer { customer: key, .. }
            | Self::OpenAccount { customer: key, .. }
            | Self::Transact { owner: key, .. }
            | Self::ReadLists { owner: key, .. } => Some(slot_of(key.as_bytes())),
            Self::Deposit { account, .. }
            | Self::Transfer { from: account, .. }
            | Self::Reversal { account, .. }
            | Self::Balance { account } => account.parse::<AccountNumber>().ok().map(AccountNumber::slot),
        }
    }
}
