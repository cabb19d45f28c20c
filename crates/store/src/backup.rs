//! A backup: every entry of a store at one revision, in a file that says what it is and whether it is whole.
//!
//! The file is text. The first line says what it is ([`Header`]), every further line is one entry as JSON, ascending
//! by key, and the last line is the SHA-256 of everything before it: a file that was cut off or changed is refused.

use std::fmt::Write as _;

use dujiang_types::Revision;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Listing, limits};

/// What the first line says.
pub const FORMAT: &str = "dujiang-store-backup";
/// The layout this code writes; it reads no other.
pub const VERSION: u32 = 1;
/// Most bytes of a backup: what a store may take, and its quoting.
pub const BACKUP_BYTES_MAX: u64 = 1 << 30;
/// What is kept under this prefix says who leads at a moment; it means nothing later.
const VOLATILE: &str = "control/";

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// The platform whose records these are.
    pub platform: String,
    /// When it was taken (wall clock).
    pub taken_at: Timestamp,
    /// The revision of the store at which all entries were so.
    pub revision: Revision,
    /// How many entries follow.
    pub entries: usize,
    /// Version of the program that took it.
    pub program: String,
}

/// One key with its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The key.
    pub key: String,
    /// The revision at which it was set.
    pub revision: Revision,
    /// The value; all values of ours are JSON text.
    pub value: String,
}

/// Every lasting entry of a store at one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The revision.
    pub revision: Revision,
    /// The entries, ascending by key.
    pub entries: Vec<Saved>,
}

/// A file that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// What it is.
    pub header: Header,
    /// The entries, ascending by key.
    pub entries: Vec<Saved>,
}

/// Why a file is no backup that can be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// It does not begin as one.
    #[error("it is not a backup of a store")]
    Foreign,
    /// It was made by a program that writes another layout.
    #[error("its layout is version {found}; this program reads version {VERSION}")]
    Version {
        /// The version.
        found: u32,
    },
    /// It was cut off or changed.
    #[error("it is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: String,
    },
    /// A value is no text.
    #[error("the value of {key:?} is no text")]
    NotText {
        /// The key.
        key: String,
    },
}

impl Content {
    /// What of a listing of the whole store is worth keeping. Keys bound to a lease and who leads at the moment are
    /// not: they say that somebody is there.
    pub fn of(listing: &Listing) -> Result<Self, BackupError> {
        let kept =
            listing.entries.iter().filter(|entry| entry.lease.is_none() && !entry.key.starts_with(VOLATILE));
        let saved = kept.map(|entry| {
            let value = String::from_utf8(entry.value.to_vec());
            let value = value.map_err(|_| BackupError::NotText { key: entry.key.clone() })?;
            Ok(Saved { key: entry.key.clone(), revision: entry.revision, value })
        });
        Ok(Self { revision: listing.revision, entries: saved.collect::<Result<_, _>>()? })
    }
}

impl Backup {
    /// A backup of that content.
    pub fn new(content: Content, platform: &str, program: &str, taken_at: Timestamp) -> Self {
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            platform: platform.to_owned(),
            taken_at,
            revision: content.revision,
            entries: content.entries.len(),
            program: program.to_owned(),
        };
        Self { header, entries: content.entries }
    }

    /// The file's content.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec(&self.header)?;
        bytes.push(b'\n');
        for entry in &self.entries {
            serde_json::to_writer(&mut bytes, entry)?;
            bytes.push(b'\n');
        }
        let sum = checksum(&bytes);
        bytes.extend_from_slice(sum.as_bytes());
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The backup in a file, if it is whole.
    pub fn decode(bytes: &[u8]) -> Result<Self, BackupError> {
        let damaged = |what: &str| BackupError::Damaged { what: what.to_owned() };
        let text = std::str::from_utf8(bytes).map_err(|_| BackupError::Foreign)?;
        let first = text.lines().next().unwrap_or_default();
        let version = format_version(first).ok_or(BackupError::Foreign)?;
        if version != VERSION {
            return Err(BackupError::Version { found: version });
        }
        let body = text.strip_suffix('\n').ok_or_else(|| damaged("its end is missing"))?;
        let (body, sum) = body.rsplit_once('\n').ok_or_else(|| damaged("its end is missing"))?;
        if checksum(&bytes[..=body.len()]) != sum {
            return Err(damaged("its checksum is another one"));
        }
        let header: Header =
            serde_json::from_str(first).map_err(|error| damaged(&format!("its first line: {error}")))?;
        let entries = body.lines().skip(1).map(|line| {
            let entry: Saved = serde_json::from_str(line).map_err(|error| damaged(&error.to_string()))?;
            limits::check_key(&entry.key).map_err(|error| damaged(&error.to_string()))?;
            Ok(entry)
        });
        let entries: Vec<Saved> = entries.collect::<Result<_, BackupError>>()?;
        if entries.len() != header.entries {
            return Err(damaged("it has another number of entries than it says"));
        }
        if !entries.is_sorted_by(|a, b| a.key < b.key) {
            return Err(damaged("its entries are not in order"));
        }
        Ok(Self { header, entries })
    }
}

/// The version in a first line; `None` if it is not one of ours.
fn format_version(line: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct Start {
        format: String,
        version: u32,
    }
    let start: Start = serde_json::from_str(line).ok()?;
    (start.format == FORMAT).then_some(start.version)
}

fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entry, LeaseId};
    use bytes::Bytes;

    fn entry(key: &str, value: &str, lease: Option<LeaseId>) -> Entry {
        let value = Bytes::copy_from_slice(value.as_bytes());
        Entry { key: key.to_owned(), value, revision: Revision(3), created: Revision(2), lease }
    }

    fn backup() -> Backup {
        let entries = vec![
            entry("control/leader", "a", None),
            entry("seat", "{}", Some(LeaseId(1))),
            entry("units/unit-1", r#"{"name":"unit-1"}"#, None),
            entry("units/unit-2", r#"{"name":"unit-2"}"#, None),
        ];
        let content = Content::of(&Listing { entries, revision: Revision(9) }).unwrap();
        Backup::new(content, "two-regions", "0.1.0", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn what_lasts_is_written_and_read() {
        let backup = backup();
        let keys: Vec<&str> = backup.entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["units/unit-1", "units/unit-2"], "who leads, or holds a lease, is of the moment");
        assert_eq!(Backup::decode(&backup.encode().unwrap()).unwrap(), backup);
    }

    #[test]
    fn whatever_was_cut_off_or_changed_is_refused() {
        let whole = backup().encode().unwrap();
        for end in 0..whole.len() {
            assert!(Backup::decode(&whole[..end]).is_err(), "cut off at {end}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(Backup::decode(&changed).is_err(), "changed at {at}");
        }
        let mut longer = whole;
        longer.extend_from_slice(b"more\n");
        assert!(Backup::decode(&longer).is_err());
        assert_eq!(Backup::decode(b"platform: two-regions\n"), Err(BackupError::Foreign));
        let newer = br#"{"format":"dujiang-store-backup","version":2}"#;
        assert_eq!(Backup::decode(newer), Err(BackupError::Version { found: 2 }));
    }
}
