//! The drivers against real processes and a real PostgreSQL.

mod faults;
mod guard;
mod process;
mod rejoin;
mod replica;
mod world;
