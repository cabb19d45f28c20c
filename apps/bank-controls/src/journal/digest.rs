//! SHA-256 over fields, each with its length before it: no two different lists of fields have the same bytes.

use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// Not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest has 64 digits of 0-9 a-f")]
pub struct DigestError;

impl Digest {
    /// From its bytes, as they were stored.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(DigestError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let digit = |at: usize| match pair[at] {
                d @ b'0'..=b'9' => Ok(d - b'0'),
                d @ b'a'..=b'f' => Ok(d - b'a' + 10),
                _ => Err(DigestError),
            };
            *byte = digit(0)? << 4 | digit(1)?;
        }
        Ok(Self(bytes))
    }
}

/// Fields on their way into a digest.
pub(super) struct Fields(sha2::Sha256);

impl Fields {
    /// Fields for one purpose: the same fields for another one have another digest.
    pub(super) fn of(purpose: &str) -> Self {
        Self(sha2::Sha256::new()).text(purpose)
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    pub(super) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    pub(super) fn number(self, number: i128) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    /// Nothing is another field than an empty text.
    pub(super) fn maybe(self, text: Option<&str>) -> Self {
        match text {
            None => self.bytes(&[0]),
            Some(text) => self.bytes(&[1]).text(text),
        }
    }

    pub(super) fn digest(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_print_and_parse() {
        let digest = Fields::of("test").digest();
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for bad in ["", "00", &"g".repeat(64), &"A".repeat(64), &"é".repeat(32)] {
            assert_eq!(bad.parse::<Digest>(), Err(DigestError), "{bad}");
        }
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let digests = [
            Fields::of("t").text("ab").text("c").digest(),
            Fields::of("t").text("a").text("bc").digest(),
            Fields::of("t").text("abc").digest(),
            Fields::of("u").text("abc").digest(),
            Fields::of("t").maybe(None).digest(),
            Fields::of("t").maybe(Some("")).digest(),
            Fields::of("t").text("").digest(),
        ];
        for (n, one) in digests.iter().enumerate() {
            assert!(!digests[..n].contains(one), "{n}");
        }
    }

    /// The encoding is a format that is stored: a change of it would make every journal look tampered with.
    #[test]
    fn the_encoding_stays_what_it_is() {
        // printf '\0\0\0\0\0\0\0\1t\0\0\0\0\0\0\0\2ab' | sha256sum
        let digest = Fields::of("t").text("ab").digest();
        assert_eq!(digest.to_string(), "fb410cf4a51feb80885d8f15ee8e98b816249de5c84f2ee6d0a1a66dd47cfa39");
    }
}
