//! What a gateway is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use dujiang_identity::Identity;
use dujiang_types::DcId;

use crate::limits;

/// What a gateway is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data center it stands in.
    pub dc: DcId,
    /// Its identity.
    pub identity: Identity,
    /// Base URLs of control servers, e.g. `https://127.0.1.1:7000`; all are reported to, one after the other is
    /// watched.
    pub control: Vec<String>,
    /// Where clients connect. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where other data centers' gateways connect, and the applications of this one.
    pub mesh: SocketAddr,
    /// Health checks and metrics.
    pub admin: SocketAddr,
    /// Worker threads, each with its own listeners; at least 1.
    pub threads: usize,
    /// File that keeps the last routing table.
    pub cache: PathBuf,
    /// Where finished requests are written down.
    pub access_log: AccessLog,
    /// File in which answers to writes with an `Idempotency-Key` are written down; `None`: they are not.
    pub answers: Option<PathBuf>,
    /// Bounds an operator may want to change.
    pub limits: Limits,
}

/// Where finished requests are written down, one JSON object per line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    #[default]
    Off,
    /// To standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

/// Bounds an operator (or a test) may want to change; the others are constants in `limits`.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest time a request waits for its unit.
    pub hold_max: Duration,
    /// Requests that may wait for one unit.
    pub held_per_unit_max: u64,
    /// Client connections over all threads.
    pub connections_max: usize,
    /// Requests of one unit under way per thread.
    pub in_flight_per_unit_max: u64,
    /// Bytes of a request's body.
    pub body_bytes_max: u64,
    /// Bytes of request bodies kept for repeating, over all threads.
    pub buffered_bytes_max: usize,
    /// How long a client may take to send line and headers.
    pub header_read_max: Duration,
    /// How long a client may take to send a buffered body.
    pub body_read_max: Duration,
    /// How long a streamed body or answer may stand still.
    pub stall_max: Duration,
    /// How long a kept-alive client connection may idle.
    pub idle_max: Duration,
    /// How long making an upstream connection may take.
    pub connect_max: Duration,
    /// How long an instance may think before the first byte of its answer.
    pub first_byte_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hold_max: limits::HOLD_MAX,
            held_per_unit_max: limits::HELD_PER_UNIT_MAX,
            connections_max: limits::CONNECTIONS_MAX,
            in_flight_per_unit_max: limits::IN_FLIGHT_PER_UNIT_MAX,
            body_bytes_max: limits::BODY_BYTES_MAX,
            buffered_bytes_max: limits::BUFFERED_BYTES_MAX,
            header_read_max: limits::HEADER_READ_MAX,
            body_read_max: limits::BODY_READ_MAX,
            stall_max: limits::STALL_MAX,
            idle_max: limits::IDLE_MAX,
            connect_max: limits::CONNECT_MAX,
            first_byte_max: limits::FIRST_BYTE_MAX,
        }
    }
}

impl Options {
    /// Options for a data center with everything else at its default: loopback addresses with free ports, one
    /// thread, no control server, no access log.
    pub fn new(dc: DcId, identity: Identity, cache: PathBuf) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            dc,
            identity,
            control: Vec::new(),
            listen: any,
            mesh: any,
            admin: any,
            threads: 1,
            cache,
            access_log: AccessLog::Off,
            answers: None,
            limits: Limits::default(),
        }
    }
}
