//! Customers and accounts to load, spread evenly over all units.

use dujiang_routing::slot_of;
use dujiang_types::{Currency, Money};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::journal::{Outcome, Receipt};
use crate::load::{Client, LoadError, UnitSlots};
use crate::request::Request;

/// Requests under way at once while preparing: enough to be quick, few enough not to be a load of its own.
const PREPARING_AT_ONCE: usize = 16;
/// What most accounts begin with.
const DEPOSIT_MINOR: i64 = 10_000_000;
/// What a poor account begins with: soon it is refused for lack of funds, which must leave no trace.
const DEPOSIT_POOR_MINOR: i64 = 3_000;
/// Every so many accounts one is poor.
const POOR_EVERY: usize = 16;
/// Every so many accounts one may be overdrawn, by [`OVERDRAFT_MINOR`].
const OVERDRAFT_EVERY: usize = 5;
const OVERDRAFT_MINOR: i64 = 50_000;
/// A transfer needs two.
const ACCOUNTS_PER_UNIT_MIN: usize = 2;

/// Names of customers per unit such that each one's slot belongs to it.
pub(crate) fn customers(units: &[UnitSlots], run: &str, per_unit: usize) -> Vec<Vec<String>> {
    let mut customers = vec![Vec::with_capacity(per_unit); units.len()];
    let owned = units.iter().filter(|unit| !unit.slots.is_empty()).count();
    let mut number = 0_u64;
    let mut full = 0;
    while full < owned {
        let customer = format!("{run}-c{number}");
        number += 1;
        let slot = slot_of(customer.as_bytes());
        let at = units.iter().position(|unit| unit.slots.iter().any(|range| range.contains(slot)));
        if let Some(at) = at
            && customers[at].len() < per_unit
        {
            customers[at].push(customer);
            full += usize::from(customers[at].len() == per_unit);
        }
    }
    customers
}

/// Opens accounts with money on them and returns their numbers by unit.
pub(crate) async fn accounts(
    client: &Client,
    units: &[UnitSlots],
    run: &str,
    count: u32,
) -> Result<Vec<Vec<String>>, LoadError> {
    if let Some(unit) = units.iter().find(|unit| unit.slots.is_empty()) {
        return Err(LoadError::Options(format!("{} owns no slots", unit.unit)));
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let per_unit = count.div_ceil(units.len().max(1)).max(ACCOUNTS_PER_UNIT_MIN);
    let customers = customers(units, run, per_unit).into_iter().enumerate();
    let work = customers.flat_map(|(unit, names)| {
        names.into_iter().enumerate().map(move |(number, customer)| (unit, number, customer))
    });
    let opened: Vec<(usize, String)> = stream::iter(work)
        .map(|(unit, number, customer)| async move {
            open(client, number, customer).await.map(|account| (unit, account))
        })
        .buffer_unordered(PREPARING_AT_ONCE)
        .try_collect()
        .await?;
    let mut accounts = vec![Vec::with_capacity(per_unit); units.len()];
    for (unit, account) in opened {
        accounts[unit].push(account);
    }
    // The order of opening depends on timing; the plan made from it must not.
    for numbers in &mut accounts {
        numbers.sort_unstable();
    }
    Ok(accounts)
}

async fn open(client: &Client, number: usize, customer: String) -> Result<String, LoadError> {
    let limit_minor = if number.is_multiple_of(OVERDRAFT_EVERY) { -OVERDRAFT_MINOR } else { 0 };
    let minor = if number % POOR_EVERY == 1 { DEPOSIT_POOR_MINOR } else { DEPOSIT_MINOR };
    let name = format!("Customer {customer}");
    succeed(client, &customer, "open", number, Request::OpenCustomer { customer: customer.clone(), name })
        .await?;
    let request = Request::OpenAccount { customer: customer.clone(), currency: Currency::CNY, limit_minor };
    let account = succeed(client, &customer, "account", number, request).await?.account.unwrap_or_default();
    let request = Request::Deposit { account: account.clone(), amount: Money::new(minor, Currency::CNY) };
    succeed(client, &customer, "deposit", number, request).await?;
    Ok(account)
}

async fn succeed(
    client: &Client,
    customer: &str,
    step: &str,
    near: usize,
    request: Request,
) -> Result<Receipt, LoadError> {
    match client.perform(&format!("{customer}-{step}"), near, &request).await? {
        Outcome::Acknowledged(receipt) => Ok(receipt),
        outcome => Err(LoadError::Prepare { request: Box::new(request), outcome: Box::new(outcome) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dujiang_types::UnitId;

    #[test]
    fn customers_belong_to_their_unit() {
        let unit = |name: &str, slots: &str| UnitSlots {
            unit: UnitId::new(name).unwrap(),
            slots: vec![slots.parse().unwrap()],
        };
        let units = [unit("a", "0-5460"), unit("b", "5461-10922"), unit("c", "10923-16383")];
        let customers = customers(&units, "run", 20);
        for (unit, names) in units.iter().zip(&customers) {
            assert_eq!(names.len(), 20);
            assert!(names.iter().all(|name| unit.slots[0].contains(slot_of(name.as_bytes()))));
        }
    }
}
