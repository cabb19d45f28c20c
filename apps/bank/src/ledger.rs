//! The heart of the books: locking accounts, and posting.

use std::collections::BTreeMap;
use std::fmt;

use dujiang_routing::AccountNumber;
use dujiang_sdk::{Call, Code, Failure, Transaction};
use dujiang_types::{Currency, Money};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::input::BALANCE_MINOR_MAX;

/// Counterparty of deposits.
pub const CASH: &str = "cash";
/// What has left an account and not yet reached one of another unit.
pub const IN_TRANSIT: &str = "in_transit";

/// Locked in the order of their numbers, by everybody, so that no two postings wait for each other.
const LOCK: &str = "
    SELECT account, customer, currency, limit_minor, balance_minor FROM accounts
    WHERE account = ANY($1) ORDER BY account FOR NO KEY UPDATE";
const BALANCES: &str = "
    UPDATE accounts SET balance_minor = leg.balance FROM unnest($1::text[], $2::bigint[]) AS leg (account, balance)
    WHERE accounts.account = leg.account AND leg.balance IS NOT NULL";
const POSTING: &str = "
    INSERT INTO postings (posting, kind, state, account, to_account, amount_minor, currency, text,
        idempotency_key, peer_posting, reverses)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
const ENTRIES: &str = "
    INSERT INTO entries (posting, account, amount_minor, currency, balance_after)
    SELECT $1, leg.account, leg.amount, $2, leg.balance
    FROM unnest($3::text[], $4::bigint[], $5::bigint[]) AS leg (account, amount, balance)";

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// The word in tables and documents.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            pub(crate) fn parse(word: &str) -> Result<Self, Failure> {
                match word {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(Failure::internal(format!("unknown {} {word:?}", stringify!($name)))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// What a posting is.
    PostingKind {
        /// Cash paid in.
        Deposit = "deposit",
        /// Between two accounts of the unit.
        Transfer = "transfer",
        /// To an account of another unit: the paying side.
        TransferOut = "transfer_out",
        /// From an account of another unit: the receiving side.
        TransferIn = "transfer_in",
        /// Undoes a deposit or a transfer.
        Reversal = "reversal",
        /// Gives back what another unit has refused.
        TransitReturn = "transit_return",
    }
}

words! {
    /// Where a posting stands.
    PostingState {
        /// Done.
        Completed = "completed",
        /// Paid, and not yet known to have arrived.
        InTransit = "in_transit",
        /// Undone by another posting.
        Reversed = "reversed",
    }
}

/// An account, locked.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) account: String,
    pub(crate) currency: Currency,
    limit_minor: i64,
    balance_minor: i64,
}

/// One entry to be.
#[derive(Debug, Clone)]
pub(crate) struct Leg {
    account: String,
    minor: i64,
    balance_after: Option<i64>,
}

/// A posting to be.
pub(crate) struct Order<'a> {
    pub(crate) posting: Uuid,
    pub(crate) kind: PostingKind,
    pub(crate) state: PostingState,
    pub(crate) account: &'a str,
    pub(crate) to_account: Option<&'a str>,
    pub(crate) amount: Money,
    pub(crate) text: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) peer: Option<Uuid>,
    pub(crate) reverses: Option<Uuid>,
}

impl Held {
    fn of(row: &Row) -> Result<Self, Failure> {
        let currency: &str = row.try_get("currency")?;
        Ok(Self {
            account: row.try_get("account")?,
            currency: currency
                .parse()
                .map_err(|_| Failure::internal("an account has an unknown currency"))?,
            limit_minor: row.try_get("limit_minor")?,
            balance_minor: row.try_get("balance_minor")?,
        })
    }

    /// Refuses another currency than the account's.
    pub(crate) fn require(&self, currency: Currency) -> Result<(), Failure> {
        if self.currency == currency {
            return Ok(());
        }
        let detail = format!("{} is kept in {}, the amount is in {currency}", self.account, self.currency);
        Err(Failure::refused(Code::CurrencyMismatch, detail))
    }

    /// Takes money out, never below the limit. The answer does not tell the balance: it may be another's account.
    pub(crate) fn debit(&self, minor: i64) -> Result<Leg, Failure> {
        let after = self.balance_minor.checked_sub(minor).filter(|after| *after >= self.limit_minor);
        let after = after.ok_or_else(|| {
            let detail = format!("the balance of {} would fall below its limit", self.account);
            Failure::refused(Code::InsufficientFunds, detail)
        })?;
        Ok(Leg { account: self.account.clone(), minor: -minor, balance_after: Some(after) })
    }

    /// Puts money in.
    pub(crate) fn credit(&self, minor: i64) -> Result<Leg, Failure> {
        let after = self.balance_minor.checked_add(minor).filter(|after| *after <= BALANCE_MINOR_MAX);
        let after = after.ok_or_else(|| {
            Failure::refused(
                Code::AmountInvalid,
                format!("the balance of {} would be too large", self.account),
            )
        })?;
        Ok(Leg { account: self.account.clone(), minor, balance_after: Some(after) })
    }

    /// Gives money back that was there before: there is always room for it.
    pub(crate) fn give_back(&self, minor: i64) -> Result<Leg, Failure> {
        let after = self.balance_minor.checked_add(minor);
        let after = after.ok_or_else(|| Failure::internal("a balance is beyond every bound"))?;
        Ok(Leg { account: self.account.clone(), minor, balance_after: Some(after) })
    }
}

impl Leg {
    /// An entry of one of the unit's own accounts.
    pub(crate) fn house(account: &'static str, minor: i64) -> Self {
        Self { account: account.to_owned(), minor, balance_after: None }
    }
}

/// Locks accounts; an unknown one is a refusal.
pub(crate) async fn lock<const N: usize>(
    tx: &Transaction,
    accounts: [AccountNumber; N],
) -> Result<[Held; N], Failure> {
    let numbers = accounts.map(|account| account.to_string());
    let rows = tx.query(LOCK, &[&numbers.as_slice()]).await?;
    let mut held = BTreeMap::new();
    for row in &rows {
        let account = Held::of(row)?;
        held.insert(account.account.clone(), account);
    }
    if let Some(missing) = numbers.iter().find(|number| !held.contains_key(*number)) {
        return Err(Failure::refused(Code::AccountNotFound, format!("there is no account {missing}")));
    }
    Ok(numbers.map(|number| held[&number].clone()))
}

/// Posts: balances, posting and entries in one round trip. The legs sum to zero, which the database checks.
pub(crate) async fn post(tx: &Transaction, order: &Order<'_>, legs: &[Leg]) -> Result<(), Failure> {
    let accounts: Vec<&str> = legs.iter().map(|leg| leg.account.as_str()).collect();
    let amounts: Vec<i64> = legs.iter().map(|leg| leg.minor).collect();
    let balances: Vec<Option<i64>> = legs.iter().map(|leg| leg.balance_after).collect();
    let (kind, state, currency) = (order.kind.as_str(), order.state.as_str(), order.amount.currency.code());
    tx.batch(&[
        Call::new(BALANCES, &[&accounts, &balances]),
        Call::new(
            POSTING,
            &[
                &order.posting,
                &kind,
                &state,
                &order.account,
                &order.to_account,
                &order.amount.minor,
                &currency,
                &order.text,
                &order.key,
                &order.peer,
                &order.reverses,
            ],
        ),
        Call::new(ENTRIES, &[&order.posting, &currency, &accounts, &amounts, &balances]),
    ])
    .await
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(balance_minor: i64, limit_minor: i64) -> Held {
        Held { account: "a".into(), currency: Currency::CNY, limit_minor, balance_minor }
    }

    fn code(leg: Result<Leg, Failure>) -> Result<i64, Code> {
        leg.map(|leg| leg.balance_after.unwrap()).map_err(|failure| failure.into_problem().code)
    }

    #[test]
    fn balances_stay_within_limit_and_range() {
        assert_eq!(code(held(10, 0).debit(10)), Ok(0));
        assert_eq!(code(held(10, 0).debit(11)), Err(Code::InsufficientFunds));
        assert_eq!(code(held(10, -5).debit(15)), Ok(-5));
        assert_eq!(code(held(i64::MIN, i64::MIN).debit(1)), Err(Code::InsufficientFunds));
        assert_eq!(code(held(BALANCE_MINOR_MAX - 1, 0).credit(1)), Ok(BALANCE_MINOR_MAX));
        assert_eq!(code(held(BALANCE_MINOR_MAX, 0).credit(1)), Err(Code::AmountInvalid));
        assert_eq!(code(held(BALANCE_MINOR_MAX, 0).give_back(1)), Ok(BALANCE_MINOR_MAX + 1));
    }

    #[test]
    fn words_are_those_of_the_schema() {
        use PostingKind::{Deposit, Reversal, Transfer, TransferIn, TransferOut, TransitReturn};
        let schema = include_str!("sql/001_ledger.sql");
        for kind in [Deposit, Transfer, TransferOut, TransferIn, Reversal, TransitReturn] {
            assert!(schema.contains(&format!("'{kind}'")));
            assert_eq!(PostingKind::parse(kind.as_str()).unwrap(), kind);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert!(PostingState::parse("lost").is_err());
    }
}
