//! Typed identifiers. A `UnitId` can never be passed where a `DcId` is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Longest name of anything: a DNS label, so that a name can be part of a host name.
pub const NAME_LEN_MAX: usize = 63;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a name: 1 to 63 of a-z, 0-9 and '-', starting with a letter, not ending with '-'")]
pub struct NameError {
    /// The offending text.
    pub value: String,
}

fn check_name(value: &str) -> Result<(), NameError> {
    let bytes = value.as_bytes();
    let ok = !bytes.is_empty()
        && bytes.len() <= NAME_LEN_MAX
        && bytes[0].is_ascii_lowercase()
        && bytes[bytes.len() - 1] != b'-'
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
    if ok { Ok(()) } else { Err(NameError { value: value.to_owned() }) }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String, example = "chengdu-1")]
        pub struct $name(String);

        impl $name {
            /// Checks the text against the rule of names.
            pub fn new(value: impl Into<String>) -> Result<Self, NameError> {
                let value = value.into();
                check_name(&value)?;
                Ok(Self(value))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                Self::new(s)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(value: String) -> Result<Self, NameError> {
                Self::new(value)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// A platform: everything one manifest describes.
    PlatformId
);
name_type!(
    /// A geographic region, e.g. `chengdu`.
    RegionId
);
name_type!(
    /// A data center, e.g. `chengdu-1`.
    DcId
);
name_type!(
    /// A unit: a slice of customers with its own database.
    UnitId
);
name_type!(
    /// An application that runs on the platform.
    AppId
);
name_type!(
    /// A move, failover or drill.
    OperationId
);

/// Number of a unit's term under one home. Raised by every change of home; fences every writer.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Revision of the store: every write has a higher one than all writes before it. 0 means "does not exist".
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many slots all customers are spread over.
pub const SLOT_COUNT: u16 = 16_384;

/// A slot: `crc32(routing key) % 16384`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "u16", into = "u16")]
#[schema(value_type = u16, example = 5461, minimum = 0, maximum = 16383)]
pub struct Slot(u16);

impl Slot {
    /// `None` if the number is 16384 or more.
    pub fn new(value: u16) -> Option<Self> {
        (value < SLOT_COUNT).then_some(Self(value))
    }

    /// The number, 0 to 16383.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Slot {
    type Error = String;
    fn try_from(value: u16) -> Result<Self, String> {
        Self::new(value).ok_or_else(|| format!("slot {value} is not below {SLOT_COUNT}"))
    }
}

impl From<Slot> for u16 {
    fn from(slot: Slot) -> u16 {
        slot.0
    }
}

/// An inclusive range of slots, written `0-5460`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SlotRange {
    /// First slot of the range.
    pub first: Slot,
    /// Last slot of the range, included.
    pub last: Slot,
}

impl SlotRange {
    /// True if the slot lies in the range.
    pub fn contains(self, slot: Slot) -> bool {
        self.first <= slot && slot <= self.last
    }
}

impl PartialSchema for SlotRange {
    fn schema() -> RefOr<Schema> {
        String::schema()
    }
}

impl ToSchema for SlotRange {}

impl FromStr for SlotRange {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let wrong =
            || format!("{s:?} is not a slot range: write first-last with 0 <= first <= last <= 16383");
        let (first, last) = s.split_once('-').unwrap_or((s, s));
        let parse = |t: &str| t.trim().parse::<u16>().ok().and_then(Slot::new).ok_or_else(wrong);
        let (first, last) = (parse(first)?, parse(last)?);
        if first <= last { Ok(Self { first, last }) } else { Err(wrong()) }
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first.get(), self.last.get())
    }
}

impl TryFrom<String> for SlotRange {
    type Error = String;
    fn try_from(value: String) -> Result<Self, String> {
        value.parse()
    }
}

impl From<SlotRange> for String {
    fn from(range: SlotRange) -> String {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule_of_dns_labels() {
        for good in ["a", "chengdu-1", "unit-12", &"a".repeat(63)] {
            assert!(DcId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "1a", "-a", "a-", "A", "a_b", "a.b", "城", &"a".repeat(64)] {
            assert!(DcId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn slot_ranges_parse_and_print() {
        let range: SlotRange = "0-5460".parse().unwrap();
        assert_eq!(range.to_string(), "0-5460");
        assert!(range.contains(Slot::new(5460).unwrap()));
        assert!(!range.contains(Slot::new(5461).unwrap()));
        for bad in ["", "5-4", "0-16384", "a-b", "1-2-3", "-1"] {
            assert!(bad.parse::<SlotRange>().is_err(), "{bad}");
        }
    }
}
