//! The gateway among real sockets: clients and instances that misbehave byte by byte, and a control server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod hold;
mod http;
mod hygiene;
mod identity;
mod repeat;
mod routing;
mod support;
