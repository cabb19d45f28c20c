//! A signed report: a DSSE envelope (Dead Simple Signing Envelope, version 1), so that other tools can check it, too.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Digest, FORMAT, PublicKey, Report, Signer, Suite};

/// The type of the payload, which is signed along with it.
const PAYLOAD_TYPE: &str = "application/vnd.dujiang.evidence+json";
/// One by the platform's key; room for more, e.g. of an auditor.
const SIGNATURES_MAX: usize = 8;

/// A report's bytes and who vouches for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// `application/vnd.dujiang.evidence+json`.
    pub payload_type: String,
    /// The report's JSON, exactly as signed, in base64.
    pub payload: String,
    /// Signatures over type and payload.
    pub signatures: Vec<Signature>,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Signature {
    /// Fingerprint of the key.
    pub keyid: String,
    /// The signature in base64: 64 bytes, of Ed25519 or of SM2 (r and s).
    pub sig: String,
}

/// Why an envelope does not prove anything.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not what this version writes.
    #[error("this is no evidence of the format {FORMAT}: {0}")]
    Format(String),
    /// None of the keys made any of the signatures.
    #[error(
        "the signature is not by any of the keys given: it was changed, or signed by another platform ({0})"
    )]
    Signature(String),
    /// It cannot be written.
    #[error("the report cannot be written as JSON")]
    Json(#[source] serde_json::Error),
}

impl Envelope {
    /// Signs a report.
    pub fn seal(report: &Report, signer: &Signer) -> Result<Self, EnvelopeError> {
        let payload = serde_json::to_vec_pretty(report).map_err(EnvelopeError::Json)?;
        let sig = STANDARD.encode(signer.sign(&signed(PAYLOAD_TYPE, &payload)));
        Ok(Self {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: STANDARD.encode(payload),
            signatures: vec![Signature { keyid: signer.public().fingerprint(), sig }],
        })
    }

    /// The report, if one of the keys vouches for it. Nothing of it is to be believed before.
    pub fn open(&self, keys: &[PublicKey]) -> Result<Report, EnvelopeError> {
        let payload = self.bytes()?;
        let message = signed(&self.payload_type, &payload);
        let vouched = self.signatures.iter().take(SIGNATURES_MAX).any(|signature| {
            let bytes = STANDARD.decode(&signature.sig).unwrap_or_default();
            keys.iter().any(|key| key.verifies(&message, &bytes))
        });
        if !vouched {
            let names: Vec<&str> = self.signatures.iter().map(|s| s.keyid.as_str()).collect();
            return Err(EnvelopeError::Signature(names.join(", ")));
        }
        self.read()
    }

    /// The report without asking who vouches for it: to show it, never to rely on it.
    pub fn read(&self) -> Result<Report, EnvelopeError> {
        if self.payload_type != PAYLOAD_TYPE {
            return Err(EnvelopeError::Format(format!("its type is {:?}", self.payload_type)));
        }
        let wrong = |e: serde_json::Error| EnvelopeError::Format(e.to_string());
        let report: Report = serde_json::from_slice(&self.bytes()?).map_err(wrong)?;
        if report.format != FORMAT {
            return Err(EnvelopeError::Format(format!("it calls itself {:?}", report.format)));
        }
        Ok(report)
    }

    /// What the next report names this one by.
    pub fn digest(&self, suite: Suite) -> Result<Digest, EnvelopeError> {
        Ok(Digest::of(suite, &self.bytes()?))
    }

    /// The payload as it was signed.
    pub fn bytes(&self) -> Result<Vec<u8>, EnvelopeError> {
        STANDARD.decode(&self.payload).map_err(|e| EnvelopeError::Format(format!("the payload: {e}")))
    }
}

/// DSSE's pre-authentication encoding: type and payload, each with its length, so that neither can pass for the other.
fn signed(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Kind, Outcome};
    use jiff::Timestamp;

    pub(crate) fn report(id: &str) -> Report {
        Report {
            format: FORMAT.to_owned(),
            id: id.to_owned(),
            platform: "two-regions".to_owned(),
            kind: Kind::Move,
            subject: "move of unit-1".to_owned(),
            outcome: Outcome::Succeeded,
            conclusion: "it serves".to_owned(),
            began: Timestamp::UNIX_EPOCH,
            ended: Timestamp::UNIX_EPOCH,
            written: Timestamp::UNIX_EPOCH,
            asked_by: "a <b> & \"c\"".to_owned(),
            approved_by: Vec::new(),
            units: Vec::new(),
            rules: Vec::new(),
            figures: Vec::new(),
            load: None,
            books: None,
            remarks: Vec::new(),
            operations: Vec::new(),
            versions: std::collections::BTreeMap::new(),
            previous: None,
        }
    }

    /// The example of DSSE's own specification.
    #[test]
    fn the_encoding_is_that_of_dsse() {
        let encoded = signed("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn only_what_the_key_signed_is_opened() {
        for suite in [Suite::International, Suite::National] {
            let (signer, other) = (Signer::generate(suite), Signer::generate(suite));
            let envelope = Envelope::seal(&report("move-1"), &signer).unwrap();
            let keys = [other.public(), signer.public()];
            assert_eq!(envelope.open(&keys).unwrap(), report("move-1"));
            assert!(matches!(envelope.open(&keys[..1]), Err(EnvelopeError::Signature(_))));
            assert!(envelope.open(&[]).is_err());

            let forged = Envelope::seal(&report("move-2"), &other).unwrap();
            let swapped = Envelope { payload: forged.payload, ..envelope.clone() };
            assert!(matches!(swapped.open(&keys[1..]), Err(EnvelopeError::Signature(_))));
            let unsigned = Envelope { signatures: Vec::new(), ..envelope.clone() };
            assert!(unsigned.open(&keys).is_err());
            let retyped = Envelope { payload_type: "text/plain".to_owned(), ..envelope };
            assert!(retyped.open(&keys).is_err());
        }
    }

    #[test]
    fn garbage_is_an_error() {
        let garbage = Envelope {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: "not base64 %".to_owned(),
            signatures: Vec::new(),
        };
        assert!(garbage.read().is_err() && garbage.digest(Suite::National).is_err());
        let empty = Envelope { payload: STANDARD.encode("{}"), ..garbage };
        assert!(matches!(empty.read(), Err(EnvelopeError::Format(_))));
    }
}
