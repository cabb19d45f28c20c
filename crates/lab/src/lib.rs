//! A laboratory of networks: three data centers as network namespaces, each behind a network device of its own, and
//! between them a wire in user space that delays, drops and cuts packets as a test says; and what is broken there on
//! purpose, with the checkers that say what came of it.
//!
//! A program that uses it runs in namespaces of its own ([`enter`]): what it starts, mounts and connects is gone when
//! it ends, however it ends, and no other process of the machine can be met by accident.

pub mod books;
pub mod case;
pub mod clock;
pub mod customers;
pub mod disk;
pub mod enter;
pub mod fault;
pub mod kept;
pub mod link;
pub mod nets;
pub mod observer;
pub mod sequence;
pub mod table;
pub mod tally;
pub mod wire;
