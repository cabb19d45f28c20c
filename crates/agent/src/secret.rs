//! The platform's secret, from which every database password is derived.

use std::fmt::{self, Write};
use std::fs;
use std::io;
use std::path::Path;

use dujiang_types::UnitId;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The platform's secret. Never printed.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// From its bytes; white space around it does not count.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.trim_ascii().to_vec())
    }

    /// Reads the secret's file.
    pub fn read(path: &Path) -> io::Result<Self> {
        let secret = Self::new(&fs::read(path)?);
        if secret.0.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the secret's file is empty"));
        }
        Ok(secret)
    }

    /// Password of a role in a unit's database: HMAC-SHA-256 of `UNIT/ROLE`, in hexadecimal.
    pub fn password(&self, unit: &UnitId, role: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        mac.update(format!("{unit}/{role}").as_bytes());
        hex(&mac.finalize().into_bytes())
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_match_an_independent_implementation() {
        // printf unit-1/bank | openssl dgst -sha256 -hmac key
        let expected = "c24c1c4fe20143687da52219f8d8cfe04559fa95b3aa5dc28d88e54343bb28cb";
        let unit = UnitId::new("unit-1").unwrap();
        assert_eq!(Secret::new(b"key\n").password(&unit, "bank"), expected);
    }
}
