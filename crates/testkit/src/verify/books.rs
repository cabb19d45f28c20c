//! The tables of one unit, as one snapshot saw them.

use std::collections::{BTreeMap, BTreeSet};

use dujiang_types::{DcId, SlotRange, UnitId};
use futures_util::TryStreamExt as _;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::verify::source::Primary;
use crate::verify::{UnitReport, VerifyError};

/// House account: counterparty of deposits.
pub(crate) const CASH: &str = "cash";
/// House account: money between units.
pub(crate) const IN_TRANSIT: &str = "in_transit";

/// One unit's books.
#[derive(Debug, Clone)]
pub struct Books {
    /// The unit.
    pub unit: UnitId,
    /// Slots it owns.
    pub slots: Vec<SlotRange>,
    /// False as long as the application has not made its tables: nothing was ever booked there.
    pub made: bool,
    /// Customer numbers.
    pub customers: BTreeSet<String>,
    /// Accounts by number.
    pub accounts: BTreeMap<String, Account>,
    /// Postings, each with its entries.
    pub postings: BTreeMap<Uuid, Posting>,
    /// Entries whose posting does not exist.
    pub strays: Vec<(Uuid, Entry)>,
    /// Messages to other units.
    pub messages: BTreeMap<Uuid, Message>,
}

/// A customer's account.
#[derive(Debug, Clone)]
pub struct Account {
    /// Whose.
    pub customer: String,
    /// Currency code.
    pub currency: String,
    /// Lowest balance allowed.
    pub limit_minor: i64,
    /// Balance.
    pub balance_minor: i64,
}

/// A posting.
#[derive(Debug, Clone)]
pub struct Posting {
    /// `deposit`, `transfer`, ...
    pub kind: String,
    /// `completed`, `in_transit`, `reversed`.
    pub state: String,
    /// Whose order it was.
    pub account: String,
    /// Payee.
    pub to_account: Option<String>,
    /// How much.
    pub amount_minor: i64,
    /// Currency code.
    pub currency: String,
    /// Key of the request that ordered it.
    pub key: Option<String>,
    /// `transfer_in`: the `transfer_out` it belongs to.
    pub peer: Option<Uuid>,
    /// The posting it takes back.
    pub reverses: Option<Uuid>,
    /// Entries, oldest first.
    pub entries: Vec<Entry>,
}

/// An entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Number, rising.
    pub entry: i64,
    /// Account number, or a house account.
    pub account: String,
    /// How much, signed.
    pub amount_minor: i64,
    /// Currency code.
    pub currency: String,
    /// Balance of the account after it; none for house accounts.
    pub balance_after: Option<i64>,
}

/// A message to another unit.
#[derive(Debug, Clone)]
pub struct Message {
    /// `pending` or `done`.
    pub state: String,
}

impl Books {
    /// All entries with their postings.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Uuid, &Entry)> {
        let kept =
            self.postings.iter().flat_map(|(id, posting)| posting.entries.iter().map(move |e| (id, e)));
        kept.chain(self.strays.iter().map(|(id, entry)| (id, entry)))
    }

    pub(crate) fn report(&self, dc: DcId, epoch: u64) -> UnitReport {
        let mut balances_minor = BTreeMap::new();
        for account in self.accounts.values() {
            *balances_minor.entry(account.currency.clone()).or_default() += i128::from(account.balance_minor);
        }
        UnitReport {
            dc,
            epoch,
            made: self.made,
            accounts: self.accounts.len(),
            postings: self.postings.len(),
            entries: self.entries().count(),
            balances_minor,
        }
    }
}

/// True for the bank's own accounts, which have no row among the accounts.
pub(crate) fn is_house(account: &str) -> bool {
    account == CASH || account == IN_TRANSIT
}

/// Reads all tables in the snapshot that has begun.
pub(crate) async fn read(primary: &Primary) -> Result<Books, VerifyError> {
    let mut books = Books {
        unit: primary.unit.clone(),
        slots: primary.slots.clone(),
        made: primary.has_books().await?,
        customers: BTreeSet::new(),
        accounts: BTreeMap::new(),
        postings: BTreeMap::new(),
        strays: Vec::new(),
        messages: BTreeMap::new(),
    };
    if !books.made {
        return Ok(books);
    }
    each(primary, "customers", "SELECT customer FROM customers", |row| {
        books.customers.insert(row.try_get(0)?);
        Ok(())
    })
    .await?;
    let query = "SELECT account, customer, currency::text, limit_minor, balance_minor FROM accounts";
    each(primary, "accounts", query, |row| {
        let account = Account {
            customer: row.try_get(1)?,
            currency: row.try_get(2)?,
            limit_minor: row.try_get(3)?,
            balance_minor: row.try_get(4)?,
        };
        books.accounts.insert(row.try_get(0)?, account);
        Ok(())
    })
    .await?;
    let query = "SELECT posting, kind::text, state::text, account, to_account, amount_minor, currency::text, \
                 idempotency_key, peer_posting, reverses FROM postings";
    each(primary, "postings", query, |row| {
        books.postings.insert(row.try_get(0)?, posting(row)?);
        Ok(())
    })
    .await?;
    let query = "SELECT posting, entry, account, amount_minor, currency::text, balance_after FROM entries \
                 ORDER BY entry";
    each(primary, "entries", query, |row| {
        let (id, entry) = (row.try_get(0)?, entry(row)?);
        match books.postings.get_mut(&id) {
            Some(posting) => posting.entries.push(entry),
            None => books.strays.push((id, entry)),
        }
        Ok(())
    })
    .await?;
    each(primary, "dujiang_outbox", "SELECT message, state::text FROM dujiang_outbox", |row| {
        books.messages.insert(row.try_get(0)?, Message { state: row.try_get(1)? });
        Ok(())
    })
    .await?;
    Ok(books)
}

fn posting(row: &Row) -> Result<Posting, tokio_postgres::Error> {
    Ok(Posting {
        kind: row.try_get(1)?,
        state: row.try_get(2)?,
        account: row.try_get(3)?,
        to_account: row.try_get(4)?,
        amount_minor: row.try_get(5)?,
        currency: row.try_get(6)?,
        key: row.try_get(7)?,
        peer: row.try_get(8)?,
        reverses: row.try_get(9)?,
        entries: Vec::with_capacity(2),
    })
}

fn entry(row: &Row) -> Result<Entry, tokio_postgres::Error> {
    Ok(Entry {
        entry: row.try_get(1)?,
        account: row.try_get(2)?,
        amount_minor: row.try_get(3)?,
        currency: row.try_get(4)?,
        balance_after: row.try_get(5)?,
    })
}

/// Row by row, so that only one form of a table is in memory.
async fn each(
    primary: &Primary,
    what: &'static str,
    query: &str,
    mut take: impl FnMut(&Row) -> Result<(), tokio_postgres::Error>,
) -> Result<(), VerifyError> {
    let no_parameters: [&(dyn ToSql + Sync); 0] = [];
    let rows = primary.client.query_raw(query, no_parameters).await.map_err(|e| primary.failed(what, e))?;
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = rows.try_next().await.map_err(|e| primary.failed(what, e))? {
        take(&row).map_err(|e| primary.failed(what, e))?;
    }
    Ok(())
}
