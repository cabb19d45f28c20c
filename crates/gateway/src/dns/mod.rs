//! Customers' DNS: this site answers for the bank's names, from what it knows itself.
//!
//! What there is to answer comes with the routing table, whether other sites are there is asked of them directly, and
//! every answer is made from these two alone: nobody else is asked while somebody waits, so that names lead somewhere
//! as long as one site is left.

mod answer;
mod limit;
mod serve;
mod sites;

pub(crate) use serve::{Server, run};
