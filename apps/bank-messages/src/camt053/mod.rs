//! `camt.053.001.08`: statements of accounts. A statement that does not add up is neither written nor read.

mod read;
mod summary;
mod table;
mod write;

use dujiang_types::Money;
use jiff::civil::Date;

use crate::common::{Account, Agent, Coded, Party};
use crate::fault::{Fault, FaultCode, Scope};
use crate::moment::Moment;

pub use read::read;
pub use table::SCHEMA;
pub use write::write;

/// The message's namespace.
pub const NAMESPACE: &str = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08";

/// A booked balance at the end of a day; below zero what the owner owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// How much.
    pub amount: Money,
    /// On which day.
    pub day: Date,
}

/// What kind of booking it is, by ISO 20022's bank transaction codes: `PMNT` `RCDT` `DMCT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionCode {
    /// Domain: `PMNT` are payments, `ACMT` account management.
    pub domain: String,
    /// Family: `RCDT` are received credit transfers.
    pub family: String,
    /// Sub-family: `DMCT` are domestic ones.
    pub subfamily: String,
}

impl TransactionCode {
    /// A code from its three parts.
    pub fn new(domain: &str, family: &str, subfamily: &str) -> Self {
        Self { domain: domain.into(), family: family.into(), subfamily: subfamily.into() }
    }
}

/// What an entry is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The instructing party's number of the transfer.
    pub instruction_id: Option<String>,
    /// The customer's number of the transfer.
    pub end_to_end_id: Option<String>,
    /// Unique over all banks.
    pub uetr: Option<String>,
    /// The first bank's number of the transfer.
    pub transaction_id: Option<String>,
    /// Who paid.
    pub debtor: Option<Party>,
    /// Where from.
    pub debtor_account: Option<Account>,
    /// To whom.
    pub creditor: Option<Party>,
    /// Where to.
    pub creditor_account: Option<Account>,
    /// What for.
    pub purpose: Option<Coded>,
    /// Lines, at most 140 characters each.
    pub remittance: Vec<String>,
}

/// One booking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number within the statement.
    pub reference: Option<String>,
    /// How much: above zero what the account gained.
    pub amount: Money,
    /// True if it takes another entry back.
    pub reversal: bool,
    /// The business day it belongs to.
    pub booked_on: Date,
    /// From when interest counts it.
    pub value_on: Date,
    /// This bank's number of it: the posting.
    pub servicer_reference: Option<String>,
    /// What kind of booking.
    pub code: TransactionCode,
    /// What it is about.
    pub details: Option<Details>,
    /// In words, at most 500 characters.
    pub info: Option<String>,
}

/// A statement of one account in one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its number.
    pub id: String,
    /// Which one it is of the account's statements, from 1; at most 15 digits.
    pub sequence: Option<u64>,
    /// When it was made.
    pub created: Option<Moment>,
    /// From when to when, both included.
    pub period: Option<(Moment, Moment)>,
    /// Of which account.
    pub account: Account,
    /// Whose it is.
    pub owner: Option<Party>,
    /// Who keeps it.
    pub servicer: Option<Agent>,
    /// Before the first entry.
    pub opening: Balance,
    /// After the last.
    pub closing: Balance,
    /// What happened, in order.
    pub entries: Vec<Entry>,
}

/// The message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statements {
    /// Its number.
    pub message_id: String,
    /// When it was made.
    pub created: Moment,
    /// At least one.
    pub statements: Vec<Statement>,
}

impl Statement {
    /// Opening balance and entries must make the closing balance, all in one currency.
    fn add_up(&self, path: &str) -> Result<(), Fault> {
        let currency = self.opening.amount.currency;
        let fault = |code, detail| Fault { path: path.to_owned(), code, detail, scope: Scope::Message };
        let amounts = self.entries.iter().map(|entry| entry.amount);
        let of_account = self.account.currency.unwrap_or(currency);
        let others = amounts.clone().chain([self.closing.amount]).map(|amount| amount.currency);
        if let Some(other) = others.chain([of_account]).find(|other| *other != currency) {
            let detail = format!("it opens in {currency} and has {other}");
            return Err(fault(FaultCode::CurrencyMixed, detail));
        }
        // In 128 bits: within a sum that ends well an intermediate one may be large.
        let entries: i128 = amounts.map(|amount| i128::from(amount.minor)).sum();
        if i128::from(self.opening.amount.minor) + entries != i128::from(self.closing.amount.minor) {
            let detail = format!(
                "{} and {} entries do not make {}",
                self.opening.amount,
                self.entries.len(),
                self.closing.amount
            );
            return Err(fault(FaultCode::StatementUnbalanced, detail));
        }
        Ok(())
    }
}

fn path_of(n: usize) -> String {
    format!("/Document/BkToCstmrStmt/Stmt[{}]", n + 1)
}
