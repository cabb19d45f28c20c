//! Every bound of the gateway, with the reason for its value.

use std::time::Duration;

/// Longest time a request waits for its unit before it is answered `unit.unavailable`. A failover takes about
/// five seconds; twice that still is below the patience of people and of client timeouts.
pub const HOLD_MAX: Duration = Duration::from_secs(10);
/// Requests that may wait for one unit, over all threads. At 300 requests/s a unit fills it in half a minute.
pub const HELD_PER_UNIT_MAX: u64 = 10_000;
/// Bytes of request bodies kept in memory for repeating, over all threads. Beyond it bodies are streamed and
/// cannot be repeated, so memory stays bounded and only the comfort goes.
pub const BUFFERED_BYTES_MAX: usize = 64 << 20;
/// A body up to this size is read as a whole before it is forwarded, so that it can be sent again and a slow
/// client never occupies an instance. Payments are below 1 KiB.
pub const REPLAY_BODY_BYTES_MAX: usize = 64 << 10;
/// First pause before a request is tried again while the table stays as it is.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(5);
/// Longest such pause: half of it is what a client waits too long on average.
pub const BACKOFF_MAX: Duration = Duration::from_millis(100);

/// Bytes of a request's line and headers. HAProxy and nginx take 8 to 16 KiB by default.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// Bytes of a request's body. Far above any payment, small enough that nobody stores files through the bank.
pub const BODY_BYTES_MAX: u64 = 8 << 20;
/// Client connections over all threads. Each costs up to 2 x `HEAD_BYTES_MAX`: 256 MiB if all are malicious.
pub const CONNECTIONS_MAX: usize = 8_192;
/// Requests of one unit under way per thread: above it the application is drowning and queueing helps nobody.
pub const IN_FLIGHT_PER_UNIT_MAX: u64 = 4_096;

/// How long a client may take to send a request's line and headers.
pub const HEADER_READ_MAX: Duration = Duration::from_secs(10);
/// How long a client may take to send a body that is buffered (64 KiB).
pub const BODY_READ_MAX: Duration = Duration::from_secs(20);
/// How long a streamed body or answer may stand still.
pub const STALL_MAX: Duration = Duration::from_secs(20);
/// How long a kept-alive client connection may idle.
pub const IDLE_MAX: Duration = Duration::from_secs(75);
/// How long a connection to an instance or gateway may take to be made; between regions a round trip is 30 ms,
/// and one lost SYN is repeated after 1 s.
pub const CONNECT_MAX: Duration = Duration::from_millis(1_500);
/// How long an instance may think before the first byte of its answer. Longer than any lock or statement
/// timeout of an application should be.
pub const FIRST_BYTE_MAX: Duration = Duration::from_secs(15);
/// How long forwarding one request may take up to the head of the answer, retries and holding included.
pub const TOTAL_MAX: Duration = Duration::from_secs(40);
/// How often clocks of connections and of slow exchanges are looked at: the accuracy of the timeouts above.
pub const TICK: Duration = Duration::from_millis(250);

/// Idle connections kept per thread and target.
pub const POOL_IDLE_PER_TARGET_MAX: usize = 256;
/// How long an idle upstream connection is kept.
pub const POOL_IDLE_MAX: Duration = Duration::from_secs(30);
/// A request that must not be sent twice only rides a connection that was used this recently: a server that
/// closes idle connections does so later than this.
pub const POOL_FRESH_MAX: Duration = Duration::from_secs(1);
/// Bytes of an answer's line and headers.
pub const ANSWER_HEAD_BYTES_MAX: usize = 64 << 10;
/// Headers of an answer; hyper's own limit for requests.
pub const HEADERS_MAX: usize = 100;
/// Size of reads from upstream connections: most answers fit into one.
pub const READ_BYTES: usize = 8 << 10;
/// With less room than this left in a connection's buffer it is made anew before reading.
pub const READ_BYTES_LEAST: usize = 1 << 10;
/// A problem document larger than this is passed on unread.
pub const PROBLEM_BYTES_MAX: usize = 16 << 10;

/// How often a healthy instance is asked for its readiness.
pub const PROBE_EVERY: Duration = Duration::from_millis(500);
/// How often one that is down is asked, so that it is back quickly.
pub const PROBE_DOWN_EVERY: Duration = Duration::from_millis(100);
/// How long it may take to answer.
pub const PROBE_MAX: Duration = Duration::from_secs(1);
/// Failed probes after which an instance is taken out: one may be a hiccup.
pub const PROBE_FAILURES: u32 = 2;
/// Failed exchanges in a row after which an instance is taken out without waiting for a probe.
pub const PASSIVE_FAILURES: u32 = 3;
/// How long it stays out before one request may try it again.
pub const PASSIVE_OUT: Duration = Duration::from_millis(500);

/// How often the gateway reports; at once when something changes.
pub const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Least time between two reports, so that a burst of changes is one report.
pub const REPORT_GAP: Duration = Duration::from_millis(5);
/// How long a report may take.
pub const REPORT_MAX: Duration = Duration::from_secs(1);
/// A watch that is silent for so long is dead: control sends a comment at least every 15 s.
pub const WATCH_SILENT_MAX: Duration = Duration::from_secs(40);
/// First pause before the watch is opened anew.
pub const WATCH_BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// Longest such pause.
pub const WATCH_BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Size of one event of the watch: a table of 10,000 units is about 2 MB.
pub const EVENT_BYTES_MAX: usize = 16 << 20;

/// Access log entries that may wait to be written per thread; beyond it they are dropped and counted, because
/// no customer should wait for a disk that logs.
pub const ACCESS_LOG_QUEUE: usize = 8_192;
/// Answers to writes that may wait for their journal per thread; beyond it they are dropped and counted, and whether they
/// were acknowledged is not known later.
pub const ANSWERS_QUEUE: usize = 8_192;
/// How long a stopping gateway waits for requests under way.
pub const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Connections of the admin listener.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
