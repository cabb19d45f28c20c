//! The store over an etcd cluster.

mod call;
mod connection;
mod convert;
mod restore;
mod watch;

use std::time::Duration;

use async_trait::async_trait;
use dujiang_identity::Identity;
use dujiang_types::Revision;
use etcd_client::{
    AlarmAction, AlarmType, Channel, Client, Compare, CompareOp, ConnectOptions, GetOptions, KvClient,
    LeaseClient, MaintenanceClient, PutOptions, TxnOp, TxnOpResponse, TxnResponse, WatchClient,
};

use self::call::{Again, call, is_compacted, is_future, is_not_found};
use self::convert::{Base, entry, number, revision_of};
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::{
    Check, Entry, Error, LeaseId, Listing, Result, Size, Store, Txn, TxnOutcome, Watch, Write, limits,
};

/// Where our keys live, so that a cluster can be shared.
const NAMESPACE: &str = "/dujiang/";
/// Entries asked for at a time: with the largest values a page fits a message.
const PAGE_ENTRIES: usize = 100;
/// Largest message taken: a page of the largest entries, with some room for their encoding.
const MESSAGE_BYTES_MAX: usize = PAGE_ENTRIES * (KEY_BYTES_MAX + VALUE_BYTES_MAX + 128);
/// How often a listing begins anew because its revision was compacted between two pages. Compactions are hours or
/// thousands of revisions apart, so twice in a row is already strange.
const LIST_ATTEMPTS: usize = 3;

/// A store in an etcd cluster, which other programs may use too: revisions then have gaps.
///
/// Connections are made when needed and made again when they break. Reads are repeated; a write is repeated only if
/// it is certain that it was not sent. A watch outlives broken connections and lost leaders.
///
/// How much history etcd keeps is set in etcd (`--auto-compaction-retention`).
#[derive(Clone)]
pub struct EtcdStore {
    kv: KvClient,
    watch: WatchClient,
    lease: LeaseClient,
    maintenance: MaintenanceClient,
    base: Base,
}

impl std::fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdStore").finish_non_exhaustive()
    }
}

impl EtcdStore {
    /// Connects to the members of a cluster, `https://ADDRESS:PORT` each, and asks for its revision to see that it
    /// works. They are shown that identity, which the store's own authority must have certified, and must show one of a
    /// member of the store.
    pub async fn connect(endpoints: &[&str], identity: &Identity) -> Result<Self> {
        let channel = connection::channel(endpoints, identity)?;
        // Cuts watches and refuses requests on a member that is separated from the others.
        let options = ConnectOptions::new().with_require_leader(true);
        let client = Client::from_channel(Channel::Tonic(channel), Some(options)).await;
        let client = client.map_err(|error| Error::unavailable("connect to etcd", error))?;
        let mut store = Self {
            kv: client.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX),
            watch: client.watch_client().max_decoding_message_size(MESSAGE_BYTES_MAX),
            lease: client.lease_client(),
            maintenance: client.maintenance_client(),
            base: Base::default(),
        };
        store.base = store.read_base().await?;
        Ok(store)
    }

    /// All entries of a listing, page by page at the first page's revision. `None` if that was compacted meanwhile.
    async fn list_at_once(&self, prefix: &str) -> Result<Option<Listing>> {
        let end = convert::range_end(prefix);
        let mut next = convert::key(prefix);
        let mut listing = Listing { entries: Vec::new(), revision: Revision(0) };
        loop {
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(number(PAGE_ENTRIES as u64))
                .with_revision(self.base.theirs(listing.revision));
            let page = call(
                "list",
                Again::Always,
                (self.kv.clone(), next, options),
                |(mut kv, key, options)| async move { kv.get(key, Some(options)).await },
            )
            .await;
            let page = match page {
                Ok(page) => page,
                Err(error) if is_compacted(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            if listing.revision == Revision(0) {
                listing.revision = revision_of(page.header(), self.base)?;
            }
            for kv in page.kvs() {
                listing.entries.push(entry(kv, self.base)?);
            }
            match page.kvs().last() {
                // The least key above the last one.
                Some(last) if page.more() => next = [last.key(), b"\0"].concat(),
                _ => return Ok(Some(listing)),
            }
        }
    }

    /// Finds the first check that failed, and what was there at the revision at which it failed.
    async fn conflict(&self, checks: &[Check], response: &TxnResponse) -> Result<TxnOutcome> {
        let at = revision_of(response.header(), self.base)?;
        for (check, found) in checks.iter().zip(response.op_responses()) {
            let TxnOpResponse::Get(found) = found else { continue };
            let revision = found.kvs().first().map_or(0, etcd_client::KeyValue::mod_revision);
            if revision != self.base.theirs(check.revision) {
                let current = if revision == 0 { None } else { self.get_at(&check.key, at).await? };
                return Ok(TxnOutcome::Conflict { key: check.key.clone(), current });
            }
        }
        Err(Error::Corrupt {
            key: NAMESPACE.to_owned(),
            what: "a conflict without a failed check".to_owned(),
        })
    }

    /// The entry as of a revision (0: now), or as of now if that revision was compacted.
    async fn get_at(&self, key: &str, at: Revision) -> Result<Option<Entry>> {
        let key = convert::key(key);
        let get = |at: Revision| {
            let options = GetOptions::new().with_revision(self.base.theirs(at));
            call(
                "get",
                Again::Always,
                (self.kv.clone(), key.clone(), options),
                |(mut kv, key, options)| async move { kv.get(key, Some(options)).await },
            )
        };
        let response = match get(at).await {
            Err(error) if is_compacted(&error) => get(Revision(0)).await?,
            outcome => outcome?,
        };
        response.kvs().first().map(|kv| entry(kv, self.base)).transpose()
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        limits::check_key(key)?;
        self.get_at(key, Revision(0)).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing> {
        limits::check_prefix(prefix)?;
        for _ in 0..LIST_ATTEMPTS {
            if let Some(listing) = self.list_at_once(prefix).await? {
                return Ok(listing);
            }
        }
        Err(Error::Compacted { oldest: self.revision().await? })
    }

    async fn transact(&self, txn: Txn) -> Result<TxnOutcome> {
        limits::check_txn(&txn)?;
        let response = call(
            "write",
            Again::IfNotSent,
            (self.kv.clone(), request(&txn, self.base)),
            |(mut kv, request)| async move { kv.txn(request).await },
        )
        .await;
        let response = match (response, txn.lease()) {
            (Err(error), Some(lease)) if is_not_found(&error) => return Err(Error::LeaseNotFound(lease)),
            (response, _) => response?,
        };
        if response.succeeded() {
            Ok(TxnOutcome::Committed(revision_of(response.header(), self.base)?))
        } else {
            self.conflict(&txn.checks, &response).await
        }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch> {
        limits::check_prefix(prefix)?;
        let revision = self.revision().await?;
        if after > revision || (self.base != Base::default() && after.0 <= self.base.0) {
            return Err(Error::Compacted { oldest: revision });
        }
        Ok(watch::start(self.clone(), prefix, after))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId> {
        let ttl_seconds = i64::from(limits::lease_ttl_seconds(ttl)?);
        let response = call("grant a lease", Again::IfNotSent, self.lease.clone(), |mut lease| async move {
            lease.grant(ttl_seconds, None).await
        })
        .await?;
        Ok(LeaseId(convert::unsigned(response.id())))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<()> {
        let id = number(lease.0);
        let kept = call("keep a lease alive", Again::Always, self.lease.clone(), |mut client| async move {
            client.keep_alive(id).await
        })
        .await;
        match kept {
            Err(call::Failure::Etcd { error: etcd_client::Error::LeaseKeepAliveError(_), .. }) => {
                Err(Error::LeaseNotFound(lease))
            }
            kept => Ok(kept.map(drop)?),
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<()> {
        let id = number(lease.0);
        let revoked = call("revoke a lease", Again::IfNotSent, self.lease.clone(), |mut client| async move {
            client.revoke(id).await
        })
        .await;
        match revoked {
            Err(error) if is_not_found(&error) => Err(Error::LeaseNotFound(lease)),
            revoked => Ok(revoked.map(drop)?),
        }
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn revision(&self) -> Result<Revision> {
        // Any read tells the revision; this one reads no value and, not being served by one member alone, is as
        // fresh as any read.
        let options = GetOptions::new().with_count_only();
        let response = call(
            "read its revision",
            Again::Always,
            (self.kv.clone(), options),
            |(mut kv, options)| async move { kv.get(NAMESPACE, Some(options)).await },
        )
        .await?;
        revision_of(response.header(), self.base)
    }

    async fn size(&self) -> Result<Size> {
        let maintenance = || self.maintenance.clone();
        let status =
            call("measure", Again::Always, maintenance(), |mut client| async move { client.status().await });
        let status = status.await?;
        let alarms = call("ask for alarms", Again::Always, maintenance(), |mut client| async move {
            client.alarm(AlarmAction::Get, AlarmType::None, None).await
        });
        let alarms = alarms.await?;
        let name = |alarm: AlarmType| match alarm {
            AlarmType::Nospace => "NOSPACE",
            AlarmType::Corrupt => "CORRUPT",
            AlarmType::None => "unknown",
        };
        Ok(Size {
            bytes: convert::unsigned(status.db_size()),
            quota_bytes: limits::STORE_BYTES_MAX,
            alarms: alarms.alarms().iter().map(|member| name(member.alarm()).to_owned()).collect(),
        })
    }

    async fn reclaim(&self) -> Result<()> {
        let maintenance = || self.maintenance.clone();
        let defragmented = call("give space back", Again::Always, maintenance(), |mut client| async move {
            client.defragment().await
        });
        defragmented.await?;
        let lifted = call("lift its alarm", Again::Always, maintenance(), |mut client| async move {
            client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, None).await
        });
        lifted.await?;
        Ok(())
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        if revision.0 <= self.base.0 {
            return Ok(());
        }
        let theirs = self.base.theirs(revision);
        let compacted = call("compact", Again::Always, self.kv.clone(), |mut kv| async move {
            kv.compact(theirs, None).await
        })
        .await;
        match compacted {
            Err(error) if is_compacted(&error) => Ok(()),
            Err(error) if is_future(&error) => {
                let what = format!("revision {revision} to compact is above the store's own");
                Err(Error::Invalid { what })
            }
            compacted => Ok(compacted.map(drop)?),
        }
    }
}

/// The transaction in etcd's words. If a check fails it reads the revisions of all keys checked, without values: a
/// message could not hold them all.
fn request(txn: &Txn, base: Base) -> etcd_client::Txn {
    let when: Vec<_> = txn
        .checks
        .iter()
        .map(|check| {
            Compare::mod_revision(convert::key(&check.key), CompareOp::Equal, base.theirs(check.revision))
        })
        .collect();
    let then: Vec<_> = txn
        .writes
        .iter()
        .map(|write| match write {
            Write::Put { key, value, lease } => {
                let options = PutOptions::new().with_lease(lease.map_or(0, |lease| number(lease.0)));
                TxnOp::put(convert::key(key), value.to_vec(), Some(options))
            }
            Write::Delete { key } => TxnOp::delete(convert::key(key), None),
        })
        .collect();
    let or_else: Vec<_> = txn
        .checks
        .iter()
        .map(|check| TxnOp::get(convert::key(&check.key), Some(GetOptions::new().with_keys_only())))
        .collect();
    etcd_client::Txn::new().when(when).and_then(then).or_else(or_else)
}
