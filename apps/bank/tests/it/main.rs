//! The bank as a whole: real processes, real PostgreSQL, a small router in the place of the gateway.

mod api;
mod books;
mod durability;
mod fence;
mod mix;
mod support;
mod transit;
