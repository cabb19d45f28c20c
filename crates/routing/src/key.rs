//! Routing keys and their slots.

use dujiang_types::Slot;
use dujiang_types::ids::SLOT_COUNT;
use dujiang_types::platform::KeyForm;

use crate::{AccountNumber, AccountNumberError};

/// Slot of a routing key: zlib's CRC-32 of its bytes, modulo 16384. The same function HAProxy calls `crc32`, so
/// that any off-the-shelf load balancer can compute it too.
pub fn slot_of(key: &[u8]) -> Slot {
    let hash = crc32fast::hash(key) % u32::from(SLOT_COUNT);
    let hash = u16::try_from(hash).unwrap_or_default();
    Slot::new(hash).unwrap_or_else(|| unreachable!("a remainder is below its divisor"))
}

/// Slot of a key of the given form. Account numbers are checked: a mistyped one is refused at the door.
pub fn slot_of_key(form: KeyForm, key: &str) -> Result<Slot, AccountNumberError> {
    match form {
        KeyForm::Hash => Ok(slot_of(key.as_bytes())),
        KeyForm::Account => key.parse::<AccountNumber>().map(AccountNumber::slot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_zlib_crc32_modulo_16384() {
        // crc32("123456789") = 0xCBF43926, the check value of the CRC catalogue.
        assert_eq!(u32::from(slot_of(b"123456789").get()), 0xCBF4_3926 % 16_384);
        assert_eq!(slot_of(b"").get(), 0);
    }
}
