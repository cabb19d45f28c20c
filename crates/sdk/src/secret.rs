//! What the platform's secret is used for: database passwords and signatures of messages between units.

use std::path::Path;

use dujiang_types::UnitId;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Label of the key messages are signed with. Without a key of their own a message whose body reads `UNIT/ROLE`
/// would carry a database password as its signature.
const MESSAGE_KEY_LABEL: &[u8] = b"dujiang messages between units";

/// The platform's secret. Never printed.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// Reads the secret's file; white space around the secret does not count.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        let text = std::fs::read(path)?;
        let secret = text.trim_ascii().to_vec();
        if secret.is_empty() {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "the secret's file is empty"));
        }
        Ok(Self(secret))
    }

    /// Password of a role in a unit's databases.
    pub fn password(&self, unit: &UnitId, role: &str) -> String {
        hex(&mac(&self.0, format!("{unit}/{role}").as_bytes()).finalize().into_bytes())
    }

    /// Signature of a message's body.
    pub fn sign(&self, body: &[u8]) -> String {
        hex(&mac(&self.message_key(), body).finalize().into_bytes())
    }

    /// True if the signature is that of the body. Compares in constant time.
    pub fn verify(&self, body: &[u8], signature: &str) -> bool {
        unhex(signature).is_some_and(|bytes| mac(&self.message_key(), body).verify_slice(&bytes).is_ok())
    }

    fn message_key(&self) -> Vec<u8> {
        mac(&self.0, MESSAGE_KEY_LABEL).finalize().into_bytes().to_vec()
    }
}

fn mac(key: &[u8], data: &[u8]) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    mac.update(data);
    mac
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hmac_sha256_of_unit_and_role() {
        let secret = Secret(b"key".to_vec());
        let unit = UnitId::new("unit-1").unwrap();
        // printf unit-1/bank | openssl dgst -sha256 -hmac key
        let expected = "c24c1c4fe20143687da52219f8d8cfe04559fa95b3aa5dc28d88e54343bb28cb";
        assert_eq!(secret.password(&unit, "bank"), expected);
    }

    #[test]
    fn a_signature_fits_its_body_only_and_is_never_a_password() {
        let secret = Secret(b"key".to_vec());
        let unit = UnitId::new("unit-1").unwrap();
        let signature = secret.sign(b"unit-1/bank");
        assert!(secret.verify(b"unit-1/bank", &signature));
        assert!(!secret.verify(b"unit-1/bank2", &signature));
        assert_ne!(signature, secret.password(&unit, "bank"));
        for bad in ["", "0", "zz", "é", &signature[2..]] {
            assert!(!secret.verify(b"unit-1/bank", bad), "{bad}");
        }
    }

    #[test]
    fn white_space_around_the_secret_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, " key\n").unwrap();
        assert_eq!(Secret::read(&path).unwrap().0, b"key");
        std::fs::write(&path, "\n").unwrap();
        assert!(Secret::read(&path).is_err());
    }
}
