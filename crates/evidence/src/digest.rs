//! Digests that say by which algorithm they were made.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Suite;

/// A digest with its algorithm: `sha256:4f6e...` or `sm3:66c7...`, in lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// The digest of these bytes by the suite's hash.
    pub fn of(suite: Suite, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(suite);
        hasher.update(bytes);
        hasher.finish()
    }

    /// True if these bytes have this digest. False also for an algorithm that is not known.
    pub fn fits(&self, bytes: &[u8]) -> bool {
        [Suite::International, Suite::National].into_iter().any(|suite| Self::of(suite, bytes) == *self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes a digest piece by piece: of a journal that is larger than memory should have to hold.
#[derive(Debug)]
pub struct Hasher(Kind);

#[derive(Debug)]
enum Kind {
    Sha256(sha2::Sha256),
    Sm3(sm3::Sm3),
}

impl Hasher {
    /// By the suite's hash.
    pub fn new(suite: Suite) -> Self {
        use sha2::Digest as _;
        Self(match suite {
            Suite::International => Kind::Sha256(sha2::Sha256::new()),
            Suite::National => Kind::Sm3(sm3::Sm3::new()),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        use sha2::Digest as _;
        match &mut self.0 {
            Kind::Sha256(hasher) => hasher.update(bytes),
            Kind::Sm3(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        use sha2::Digest as _;
        match self.0 {
            Kind::Sha256(hasher) => text("sha256", &hasher.finalize()),
            Kind::Sm3(hasher) => text("sm3", &hasher.finalize()),
        }
    }
}

fn text(algorithm: &str, bytes: &[u8]) -> Digest {
    use fmt::Write as _;
    let mut out = format!("{algorithm}:");
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    Digest(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "abc" by FIPS 180-4, appendix B.1, and by GB/T 32905-2016, appendix A.1.
    #[test]
    fn known_vectors() {
        let abc = |suite| Digest::of(suite, b"abc").to_string();
        assert_eq!(
            abc(Suite::International),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            abc(Suite::National),
            "sm3:66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
        );
    }

    #[test]
    fn a_digest_fits_its_bytes_only() {
        for suite in [Suite::International, Suite::National] {
            let digest = Digest::of(suite, b"journal");
            assert!(digest.fits(b"journal") && !digest.fits(b"journa1"));
        }
        assert!(!Digest("md5:900150983cd24fb0d6963f7d28e17f72".to_owned()).fits(b"abc"));
    }
}
