//! Internal controls of the bank's daily work: what was done by whom, provably ([`journal`]), and what somebody may do
//! alone, with a second person, or not at all ([`limits`]).
//!
//! Pure: no IO, no clock. Records and decisions are values; who stores the ones and asks for the others is the bank.
//!
//! Source of the rules: CBRC notice 2014 No. 40, guidelines on the internal control of commercial banks (authorisation by
//! role and amount, separation of duties, records that can be traced).

pub mod journal;
pub mod limits;
