//! Bounds both implementations keep, so that what works with one works with the other.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::{Error, Result, Txn, Write};

/// Longest key. Keys are kind and name, two DNS labels; the rest is room for later kinds.
pub const KEY_BYTES_MAX: usize = 512;
/// Largest value. A resource with a long record of steps has some 10 KiB.
pub const VALUE_BYTES_MAX: usize = 512 * 1024;
/// Most keys and values of one transaction together. etcd refuses requests over 1.5 MiB, encoding included.
pub const TXN_BYTES_MAX: usize = 1024 * 1024;
/// Most checks, and most writes, of one transaction: etcd's default `max-txn-ops`.
pub const TXN_OPS_MAX: usize = 128;
/// What a store may take on disk: a thousand times what a large platform has. etcd is started with it as its quota;
/// for a file it is the same bound to be warned by.
pub const STORE_BYTES_MAX: u64 = dujiang_types::platform::STORE_BYTES_MAX;
/// Shortest lease: etcd's own minimum with its default election timeout of one second (one and a half of it,
/// rounded up to whole seconds).
pub const LEASE_TTL_MIN: Duration = Duration::from_secs(2);
/// Longest lease: what a forgotten lease holds is gone after a day.
pub const LEASE_TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Checks a key.
pub(crate) fn check_key(key: &str) -> Result<()> {
    if key.is_empty() {
        return Err(Error::Invalid { what: "a key is empty".to_owned() });
    }
    if key.contains('\0') {
        return Err(Error::Invalid { what: "a key contains a zero byte".to_owned() });
    }
    at_most("a key, in bytes,", key.len(), KEY_BYTES_MAX)
}

/// Checks a prefix; unlike a key it may be empty.
pub(crate) fn check_prefix(prefix: &str) -> Result<()> {
    if prefix.is_empty() { Ok(()) } else { check_key(prefix) }
}

/// Checks a transaction before anything of it is done.
pub(crate) fn check_txn(txn: &Txn) -> Result<()> {
    at_most("the list of checks", txn.checks.len(), TXN_OPS_MAX)?;
    at_most("the list of writes", txn.writes.len(), TXN_OPS_MAX)?;
    let mut bytes = 0;
    for check in &txn.checks {
        check_key(&check.key)?;
        bytes += check.key.len();
    }
    let mut written = BTreeSet::new();
    for write in &txn.writes {
        check_key(write.key())?;
        if !written.insert(write.key()) {
            return Err(Error::Invalid {
                what: format!("{:?} is written twice in one transaction", write.key()),
            });
        }
        bytes += write.key().len();
        if let Write::Put { value, lease, .. } = write {
            if lease.is_some() && *lease != txn.lease() {
                return Err(Error::Invalid { what: "a transaction binds keys to two leases".to_owned() });
            }
            at_most("a value, in bytes,", value.len(), VALUE_BYTES_MAX)?;
            bytes += value.len();
        }
    }
    at_most("a transaction, in bytes,", bytes, TXN_BYTES_MAX)
}

/// The time to live a lease really gets, in whole seconds.
pub(crate) fn lease_ttl_seconds(ttl: Duration) -> Result<u32> {
    if ttl > LEASE_TTL_MAX {
        return Err(Error::Invalid { what: format!("a lease lives at most {} s", LEASE_TTL_MAX.as_secs()) });
    }
    let seconds = ttl.max(LEASE_TTL_MIN).as_millis().div_ceil(1000);
    u32::try_from(seconds)
        .map_err(|_| Error::Invalid { what: "the time to live of a lease is too long".to_owned() })
}

fn at_most(what: &str, size: usize, max: usize) -> Result<()> {
    if size <= max { Ok(()) } else { Err(Error::TooLarge { what: what.to_owned(), size, max }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_rounded_up_never_down() {
        let seconds = |ms| lease_ttl_seconds(Duration::from_millis(ms)).unwrap();
        assert_eq!([seconds(0), seconds(2000), seconds(2001), seconds(5999)], [2, 2, 3, 6]);
        assert!(lease_ttl_seconds(LEASE_TTL_MAX + Duration::from_millis(1)).is_err());
    }

    #[test]
    fn a_transaction_is_bounded_in_every_dimension() {
        assert!(check_txn(&Txn::new().put("a", "1").delete("b")).is_ok());
        assert!(matches!(check_txn(&Txn::new().put("a", "1").delete("a")), Err(Error::Invalid { .. })));
        assert!(matches!(check_txn(&Txn::new().put("", "1")), Err(Error::Invalid { .. })));
        let many = (0..=TXN_OPS_MAX).fold(Txn::new(), |txn, i| txn.put(format!("k{i}"), "1"));
        assert!(matches!(check_txn(&many), Err(Error::TooLarge { .. })));
        let value = vec![0_u8; VALUE_BYTES_MAX];
        assert!(check_txn(&Txn::new().put("a", value.clone())).is_ok());
        let heavy = Txn::new().put("a", value.clone()).put("b", value.clone()).put("c", "1");
        assert!(matches!(check_txn(&heavy), Err(Error::TooLarge { .. })));
        assert!(matches!(
            check_txn(&Txn::new().put("k".repeat(KEY_BYTES_MAX + 1), "1")),
            Err(Error::TooLarge { .. })
        ));
    }
}
