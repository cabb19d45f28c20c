//! The keys reports are signed with: Ed25519, or SM2 where the national suite is asked for.

use std::fmt;

use ed25519_dalek::pkcs8::spki::EncodePublicKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey};
use ed25519_dalek::{Signer as _, Verifier as _};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Digest;

/// SM2 signs for somebody: this identifier is the one GM/T 0009-2012 names for when there is no other.
const DISTID: &str = "1234567812345678";

/// Which algorithms sign and digest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    /// Ed25519 (RFC 8032) and SHA-256 (FIPS 180-4).
    #[default]
    International,
    /// SM2 (GB/T 32918) and SM3 (GB/T 32905).
    National,
}

impl Suite {
    /// The name of its signature algorithm.
    pub fn algorithm(self) -> &'static str {
        match self {
            Self::International => "ed25519",
            Self::National => "sm2",
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::International => "international",
            Self::National => "national",
        })
    }
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Neither an Ed25519 nor an SM2 key in PEM.
    #[error("this is no {what} key of Ed25519 or SM2 in PEM")]
    Unreadable {
        /// `private` or `public`.
        what: &'static str,
    },
    /// The library could not write it down.
    #[error("the key cannot be written as PEM")]
    Unwritable,
}

/// A private key: who has it signs.
pub struct Signer(Private);

enum Private {
    Ed25519(ed25519_dalek::SigningKey),
    Sm2(sm2::SecretKey, Box<sm2::dsa::SigningKey>),
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key itself.
        f.debug_tuple("Signer").field(&self.suite()).finish()
    }
}

impl Signer {
    /// A new key.
    pub fn generate(suite: Suite) -> Self {
        match suite {
            Suite::International => {
                Self(Private::Ed25519(ed25519_dalek::SigningKey::from_bytes(&rand::random())))
            }
            Suite::National => loop {
                // One in 2^32 random numbers is no key of this curve.
                let bytes: [u8; 32] = rand::random();
                if let Some(signer) = sm2::SecretKey::from_slice(&bytes).ok().and_then(Self::sm2) {
                    return signer;
                }
            },
        }
    }

    fn sm2(secret: sm2::SecretKey) -> Option<Self> {
        let signing = sm2::dsa::SigningKey::new(DISTID, &secret).ok()?;
        Some(Self(Private::Sm2(secret, Box::new(signing))))
    }

    /// Reads a PKCS#8 private key in PEM; its algorithm is the suite's.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        if let Ok(key) = ed25519_dalek::SigningKey::from_pkcs8_pem(pem) {
            return Ok(Self(Private::Ed25519(key)));
        }
        let sm2 = <sm2::SecretKey as sm2::pkcs8::DecodePrivateKey>::from_pkcs8_pem(pem).ok();
        sm2.and_then(Self::sm2).ok_or(KeyError::Unreadable { what: "private" })
    }

    /// The key as PKCS#8 in PEM. A secret.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        let pem = match &self.0 {
            Private::Ed25519(key) => key.to_pkcs8_pem(LineEnding::LF).ok(),
            Private::Sm2(key, _) => {
                sm2::pkcs8::EncodePrivateKey::to_pkcs8_pem(key, sm2::pkcs8::LineEnding::LF).ok()
            }
        };
        pem.map(|pem| pem.to_string()).ok_or(KeyError::Unwritable)
    }

    /// Which algorithms it is for.
    pub fn suite(&self) -> Suite {
        match &self.0 {
            Private::Ed25519(_) => Suite::International,
            Private::Sm2(..) => Suite::National,
        }
    }

    /// The key that verifies what this one signs.
    pub fn public(&self) -> PublicKey {
        match &self.0 {
            Private::Ed25519(key) => PublicKey(Public::Ed25519(key.verifying_key())),
            Private::Sm2(_, key) => PublicKey(Public::Sm2(Box::new(key.verifying_key().clone()))),
        }
    }

    /// Signs.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.0 {
            Private::Ed25519(key) => key.sign(message).to_bytes().to_vec(),
            Private::Sm2(_, key) => sm2_sign(key, message),
        }
    }
}

fn sm2_sign(key: &sm2::dsa::SigningKey, message: &[u8]) -> Vec<u8> {
    let signature: sm2::dsa::Signature = sm2::dsa::signature::Signer::sign(key, message);
    signature.to_bytes().to_vec()
}

/// A public key: who has it verifies.
#[derive(Debug, Clone)]
pub struct PublicKey(Public);

#[derive(Debug, Clone)]
enum Public {
    Ed25519(ed25519_dalek::VerifyingKey),
    Sm2(Box<sm2::dsa::VerifyingKey>),
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo` in PEM.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        if let Ok(key) = ed25519_dalek::VerifyingKey::from_public_key_pem(pem) {
            return Ok(Self(Public::Ed25519(key)));
        }
        let sm2 = <sm2::PublicKey as sm2::pkcs8::DecodePublicKey>::from_public_key_pem(pem).ok();
        let sm2 = sm2.and_then(|key| sm2::dsa::VerifyingKey::new(DISTID, key).ok());
        sm2.map(|key| Self(Public::Sm2(Box::new(key)))).ok_or(KeyError::Unreadable { what: "public" })
    }

    /// The key as `SubjectPublicKeyInfo` in PEM: for everybody.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        let pem = match &self.0 {
            Public::Ed25519(key) => key.to_public_key_pem(LineEnding::LF).ok(),
            Public::Sm2(key) => {
                let key = sm2::PublicKey::from(&**key);
                sm2::pkcs8::EncodePublicKey::to_public_key_pem(&key, sm2::pkcs8::LineEnding::LF).ok()
            }
        };
        pem.ok_or(KeyError::Unwritable)
    }

    /// Which algorithms it is for.
    pub fn suite(&self) -> Suite {
        match &self.0 {
            Public::Ed25519(_) => Suite::International,
            Public::Sm2(_) => Suite::National,
        }
    }

    /// What people compare: algorithm and digest of the key's bytes.
    pub fn fingerprint(&self) -> String {
        let (suite, bytes) = match &self.0 {
            Public::Ed25519(key) => (Suite::International, key.to_bytes().to_vec()),
            Public::Sm2(key) => (Suite::National, key.to_sec1_bytes().to_vec()),
        };
        format!("{}:{}", suite.algorithm(), Digest::of(suite, &bytes))
    }

    /// True if the signature is this key's for that message.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Public::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Public::Sm2(key) => sm2::dsa::Signature::from_slice(signature).is_ok_and(|signature| {
                sm2::dsa::signature::Verifier::verify(&**key, message, &signature).is_ok()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITES: [Suite; 2] = [Suite::International, Suite::National];

    #[test]
    fn a_key_survives_being_written_down() {
        for suite in SUITES {
            let signer = Signer::generate(suite);
            let again = Signer::from_pem(&signer.to_pem().unwrap()).unwrap();
            assert_eq!(again.suite(), suite);
            let public = PublicKey::from_pem(&signer.public().to_pem().unwrap()).unwrap();
            assert_eq!(public.fingerprint(), signer.public().fingerprint());
            assert!(public.verifies(b"message", &again.sign(b"message")));
        }
    }

    #[test]
    fn another_message_or_key_is_not_vouched_for() {
        for suite in SUITES {
            let (one, two) = (Signer::generate(suite), Signer::generate(suite));
            let signature = one.sign(b"message");
            assert!(!one.public().verifies(b"massage", &signature));
            assert!(!two.public().verifies(b"message", &signature));
            let mut broken = signature.clone();
            broken[7] ^= 1;
            assert!(!one.public().verifies(b"message", &broken));
            assert!(!one.public().verifies(b"message", &signature[1..]));
            assert_ne!(one.public().fingerprint(), two.public().fingerprint());
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_no_key_is_shown() {
        assert!(Signer::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").is_err());
        assert!(PublicKey::from_pem("").is_err());
        assert_eq!(format!("{:?}", Signer::generate(Suite::National)), "Signer(National)");
    }

    /// RFC 8032, section 7.1, test 1: the empty message.
    #[test]
    fn known_vector_of_ed25519() {
        let secret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let bytes: Vec<u8> =
            (0..32).map(|i| u8::from_str_radix(&secret[2 * i..2 * i + 2], 16).unwrap()).collect();
        let key = ed25519_dalek::SigningKey::from_bytes(&bytes.try_into().unwrap());
        let signature = Signer(Private::Ed25519(key)).sign(b"");
        assert_eq!(signature[..4], [0xe5, 0x56, 0x43, 0x00]);
        assert_eq!(signature[60..], [0x8e, 0x7a, 0x10, 0x0b]);
    }
}
