//! Connections to instances and other gateways: made, pooled, and one exchange over them.
//!
//! Requests go out over our own few lines instead of an HTTP client, because what may be repeated depends on
//! knowing exactly whether a byte was sent, which clients do not tell. Answers are parsed by hyper's parser.

use std::cell::RefCell;
use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use dujiang_identity::Connector;
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::answer::{AnswerError, AnswerHead, take_head};
use crate::body::{Payload, PayloadError, Streamed};
use crate::health::Health;
use crate::limits::{POOL_FRESH_MAX, POOL_IDLE_MAX, POOL_IDLE_PER_TARGET_MAX, READ_BYTES, READ_BYTES_LEAST};

/// Somebody requests are forwarded to, with this thread's idle connections.
pub(crate) struct Target {
    /// Where it is.
    pub(crate) address: SocketAddr,
    /// Its health; gateways of other data centers have none, the table says enough.
    pub(crate) health: Option<Arc<Health>>,
    /// Knows whom to expect there.
    connector: Connector,
    idle: RefCell<Vec<Idle>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Target {
    pub(crate) fn new(address: SocketAddr, health: Option<Arc<Health>>, connector: Connector) -> Self {
        Self { address, health, connector, idle: RefCell::default() }
    }

    /// Makes a connection within that time. An error means that nothing was sent.
    pub(crate) async fn connect(&self, within: Duration) -> io::Result<Connection> {
        let connecting = async {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            self.connector.connect(self.address.ip(), stream).await
        };
        let stream = tokio::time::timeout(within, connecting).await??;
        Ok(Connection { stream, buffer: BytesMut::new(), reused: false })
    }

    /// An idle connection that is not closed, as far as one can know; with `fresh` one that was used just now.
    pub(crate) fn take_idle(&self, fresh: bool) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { connection, since }) = idle.pop() {
            if connection.is_quiet() && !(fresh && since.elapsed() > POOL_FRESH_MAX) {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request. One with unread bytes is not in step and is closed.
    pub(crate) fn put_back(&self, mut connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if connection.buffer.is_empty() && idle.len() < POOL_IDLE_PER_TARGET_MAX {
            connection.reused = true;
            idle.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes connections that idled for too long; returns how many are left.
    pub(crate) fn expire_idle(&self, now: Instant) -> usize {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| now.saturating_duration_since(idle.since) < POOL_IDLE_MAX);
        idle.len()
    }

    /// An exchange broke.
    pub(crate) fn broke(&self) {
        if let Some(health) = &self.health {
            health.failed();
        }
    }

    /// An exchange went well.
    pub(crate) fn went_well(&self) {
        if let Some(health) = &self.health {
            health.exchanged();
        }
    }
}

/// One connection.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    /// Received and not consumed.
    pub(crate) buffer: BytesMut,
    /// True if it has served before: then it may have been closed in the meantime.
    pub(crate) reused: bool,
}

impl Connection {
    /// True if the other end has neither closed nor said anything. Servers here say nothing of their own accord, not
    /// even in the protocol below: they send no tickets. A byte taken from under it ends the connection anyway.
    fn is_quiet(&self) -> bool {
        matches!(self.stream.get_ref().0.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Reads more into the buffer; 0 at the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES_LEAST {
            self.buffer.reserve(READ_BYTES);
        }
        pin!(self.stream.read_buf(&mut self.buffer)).poll(cx)
    }
}

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the connection failed")]
    Io(#[source] io::Error),
    #[error("the connection was closed before an answer")]
    Closed,
    #[error("the answer cannot be understood")]
    Answer(#[source] AnswerError),
    #[error("the client's body failed")]
    Payload(#[source] PayloadError),
}

/// One request and the head of its answer, over one connection.
pub(crate) struct Exchange<'a> {
    connection: &'a mut Connection,
    method: &'a Method,
    /// Bytes to send next.
    out: &'a mut Vec<u8>,
    out_from: usize,
    stream: Option<&'a mut Streamed>,
    /// Bytes the connection has taken: from the first one on some may be on their way.
    pub(crate) sent: u64,
    /// Bytes received or sent so far; changes whenever something moves.
    pub(crate) progress: u64,
    /// True while the next piece of the client's body is awaited.
    pub(crate) starved: bool,
    all_sent: bool,
    send_error: Option<io::Error>,
}

impl<'a> Exchange<'a> {
    /// `out` holds the head, and the body if that is whole.
    pub(crate) fn new(
        connection: &'a mut Connection,
        method: &'a Method,
        out: &'a mut Vec<u8>,
        payload: &'a mut Payload,
    ) -> Self {
        let stream = match payload {
            Payload::Stream(stream) => Some(stream),
            Payload::None | Payload::Whole { .. } => None,
        };
        Self {
            connection,
            method,
            out,
            out_from: 0,
            stream,
            sent: 0,
            progress: 0,
            starved: false,
            all_sent: false,
            send_error: None,
        }
    }

    /// Sends the request and waits for the head of the answer. Can be called again after it was cancelled.
    /// The flag says whether all of the request was sent, so that the connection is in step.
    pub(crate) async fn run(&mut self) -> Result<(AnswerHead, bool), Broken> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(AnswerHead, bool), Broken>> {
        if !self.all_sent {
            match self.poll_send(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.all_sent = true,
                Poll::Ready(Err(Broken::Io(error))) if self.sent > 0 => {
                    // The answer may be there already: "too large" is said before all is read.
                    self.all_sent = true;
                    self.send_error = Some(error);
                }
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
            }
        }
        loop {
            if !self.connection.buffer.is_empty()
                && let Some(head) =
                    take_head(&mut self.connection.buffer, self.method).map_err(Broken::Answer)?
            {
                return Poll::Ready(Ok((head, self.all_sent && self.send_error.is_none())));
            }
            let closed = match ready!(self.connection.poll_fill(cx)) {
                Ok(0) => Broken::Closed,
                Ok(read) => {
                    self.progress += read as u64;
                    continue;
                }
                Err(error) => Broken::Io(error),
            };
            return Poll::Ready(Err(self.send_error.take().map_or(closed, Broken::Io)));
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            while self.out_from < self.out.len() {
                let stream = Pin::new(&mut self.connection.stream);
                let wrote = ready!(stream.poll_write(cx, &self.out[self.out_from..])).map_err(Broken::Io)?;
                if wrote == 0 {
                    return Poll::Ready(Err(Broken::Io(io::ErrorKind::WriteZero.into())));
                }
                self.out_from += wrote;
                self.sent += wrote as u64;
                self.progress += wrote as u64;
            }
            // What was taken may still wait to be written to the socket.
            ready!(Pin::new(&mut self.connection.stream).poll_flush(cx)).map_err(Broken::Io)?;
            let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
            self.starved = true;
            let data = ready!(stream.poll_data(cx)).map_err(Broken::Payload)?;
            self.starved = false;
            let chunked = stream.length.is_none();
            self.out.clear();
            self.out_from = 0;
            match data {
                Some(data) if chunked => {
                    self.out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                    self.out.extend_from_slice(&data);
                    self.out.extend_from_slice(b"\r\n");
                }
                Some(data) => self.out.extend_from_slice(&data),
                None => {
                    self.stream = None;
                    if chunked {
                        self.out.extend_from_slice(b"0\r\n\r\n");
                    }
                }
            }
        }
    }
}
