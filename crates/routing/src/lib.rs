//! From a request to a place: routing keys, slots, the routing table, hold or forward.
//!
//! Pure: used by the gateway on every request, by applications and by the checker.

pub mod account;
pub mod decision;
pub mod key;
pub mod table;

pub use account::{AccountNumber, AccountNumberError};
pub use decision::{Compiled, HeaderText, Place, Refusal, Target};
pub use key::{slot_of, slot_of_key};
pub use table::{Mode, RoutingTable, UnitRoute};
