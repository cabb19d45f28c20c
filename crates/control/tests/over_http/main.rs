//! The control plane over real HTTP and a real store in a temporary folder.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in what its tests share")]

mod controller;
mod description;
mod etcd;
mod evidence;
mod garbage;
mod identity;
mod join;
mod plane;
mod readiness;
mod resources;
mod sse;
mod watches;
mod world;
