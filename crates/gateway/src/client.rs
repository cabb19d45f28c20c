//! A client's connection: where it is in its life, and the bytes hyper reads and writes.
//!
//! Instead of a timer per request each connection notes what it is doing since when, and one sweep per thread
//! looks at all of them: a request costs two stores.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use dujiang_types::{Code, Problem};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::server::TlsStream;

use crate::options::Limits;
use crate::problem;
use crate::worker::Clock;

/// How long the rest of a refused request is read and dropped, so that the answer is not lost to a reset.
const LINGER_MAX: Duration = Duration::from_secs(1);
/// How much of it.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Between requests.
    Idle,
    /// A part of a request's head has come.
    Head,
    /// A request is being served; its own timeouts apply.
    Serving,
    /// An answer is being written; `true` once its end is known to be in hyper's hands.
    Answering(bool),
}

/// What is known about a client's connection, shared by its two ends in this thread.
pub(crate) struct ClientState {
    /// The other end.
    pub(crate) peer: SocketAddr,
    gateway: Cell<bool>,
    phase: Cell<Phase>,
    since: Cell<Instant>,
    clock: Rc<Clock>,
    waker: RefCell<Option<Waker>>,
    expired: Cell<bool>,
    reset: Cell<bool>,
    linger: Cell<bool>,
    malformed: Cell<bool>,
    task: RefCell<Option<AbortHandle>>,
}

impl ClientState {
    pub(crate) fn new(peer: SocketAddr, clock: &Rc<Clock>) -> Self {
        Self {
            peer,
            gateway: Cell::new(false),
            // Who connects is expected to say something; only afterwards may it idle.
            phase: Cell::new(Phase::Head),
            since: Cell::new(clock.now()),
            clock: clock.clone(),
            waker: RefCell::default(),
            expired: Cell::default(),
            reset: Cell::default(),
            linger: Cell::default(),
            malformed: Cell::default(),
            task: RefCell::default(),
        }
    }

    /// It has proven to be another gateway: what it says about a request's way is believed.
    pub(crate) fn is_proven_gateway(&self) {
        self.gateway.set(true);
    }

    /// True if it is another gateway, and no customer and no application.
    pub(crate) fn is_gateway(&self) -> bool {
        self.gateway.get()
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.clock.now());
    }

    /// The task that serves it, to be ended if nothing else helps.
    pub(crate) fn served_by(&self, task: AbortHandle) {
        self.task.replace(Some(task));
    }

    /// A request has come in.
    pub(crate) fn request_begins(&self) {
        self.enter(Phase::Serving);
    }

    /// Its answer is handed to hyper as a whole.
    pub(crate) fn answer_begins(&self) {
        if self.phase.get() == Phase::Serving {
            self.enter(Phase::Answering(true));
        }
    }

    /// Its answer's head is handed to hyper; the body follows.
    pub(crate) fn answer_streams(&self) {
        self.enter(Phase::Answering(false));
    }

    /// The end of a streamed body is handed to hyper.
    pub(crate) fn answer_ends(&self) {
        if matches!(self.phase.get(), Phase::Answering(_)) {
            self.enter(Phase::Answering(true));
        }
    }

    /// The connection shall end with a reset, so that nobody takes what was sent for the whole.
    pub(crate) fn reset(&self) {
        self.reset.set(true);
    }

    /// The request's body was not read to its end: the rest must be read before closing.
    pub(crate) fn linger(&self) {
        self.linger.set(true);
    }

    /// True if what came was not HTTP.
    pub(crate) fn was_malformed(&self) -> bool {
        self.malformed.get()
    }

    /// True if it is between requests.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase.get() == Phase::Idle
    }

    /// Since when it does what it does.
    pub(crate) fn since(&self) -> Instant {
        self.since.get()
    }

    /// Ends the connection if it has been at it for too long. True if that was news.
    pub(crate) fn expire(&self, now: Instant, limits: &Limits) -> bool {
        let most = match self.phase.get() {
            Phase::Idle => limits.idle_max,
            Phase::Head => limits.header_read_max,
            Phase::Serving => return false,
            Phase::Answering(_) => limits.stall_max,
        };
        now.saturating_duration_since(self.since.get()) > most && self.end()
    }

    /// Ends the connection: gently at first, by force at the second call. True if it is the first.
    pub(crate) fn end(&self) -> bool {
        if self.expired.replace(true) {
            if let Some(task) = &*self.task.borrow() {
                task.abort();
            }
            return false;
        }
        if matches!(self.phase.get(), Phase::Answering(_)) {
            self.reset.set(true);
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        true
    }

    fn remember(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }
}

/// What a client's connection is made of: customers' is plain, other gateways' and applications' is not.
pub(crate) enum ClientStream {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

impl ClientStream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Secure(stream) => stream.get_ref().0,
        }
    }

    /// Writes as much as is taken at once.
    fn try_write(&mut self, bytes: &[u8]) {
        let mut cx = Context::from_waker(Waker::noop());
        // Whoever does not take it now hears nothing.
        if Pin::new(&mut *self).poll_write(&mut cx, bytes).is_ready() {
            let _ = Pin::new(self).poll_flush(&mut cx);
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Secure(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Secure(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// The bytes of a client's connection as hyper sees them.
pub(crate) struct ClientIo {
    /// Only absent while dropping.
    stream: Option<ClientStream>,
    state: Rc<ClientState>,
    /// Our words in place of hyper's bare refusal, and how many of them are written.
    refusal: Option<(Vec<u8>, usize)>,
}

impl ClientIo {
    pub(crate) fn new(stream: ClientStream, state: Rc<ClientState>) -> Self {
        Self { stream: Some(stream), state, refusal: None }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut ClientStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Says that the head took too long, if the client is in the middle of one and listens.
    fn refuse_slow(&mut self) {
        if self.state.phase.get() == Phase::Head
            && let Some(stream) = &mut self.stream
        {
            let problem = Problem::new(Code::RequestIncomplete, "It did not arrive in time.");
            stream.try_write(&problem::raw(&problem));
            self.state.linger();
        }
    }

    /// Writes our refusal in place of `theirs`.
    fn poll_refuse(&mut self, cx: &mut Context<'_>, theirs: &[u8]) -> Poll<io::Result<usize>> {
        let (ours, mut wrote) = self.refusal.take().unwrap_or_else(|| (refusal(theirs), 0));
        self.state.malformed.set(true);
        self.state.linger();
        while wrote < ours.len() {
            match self.stream()?.poll_write(cx, &ours[wrote..]) {
                Poll::Ready(result) => wrote += result?,
                Poll::Pending => {
                    self.refusal = Some((ours, wrote));
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(theirs.len()))
    }
}

/// What hyper answers with an empty body to what it cannot parse, as a problem.
fn refusal(theirs: &[u8]) -> Vec<u8> {
    let status =
        theirs.get(9..12).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok()).unwrap_or(400);
    let (code, detail) = match status {
        431 => (Code::RequestTooLarge, "The request's headers are too many or too large."),
        414 => (Code::RequestTooLarge, "The request's path is too long."),
        _ => (Code::RequestInvalid, "The request is not well-formed HTTP/1.1."),
    };
    let mut problem = Problem::new(code, detail);
    problem.status = status;
    problem::raw(&problem)
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.state.expired.get() {
            self.refuse_slow();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        let result = self.stream()?.poll_read(cx, buf);
        match result {
            Poll::Pending => self.state.remember(cx.waker()),
            Poll::Ready(_) if buf.filled().len() > before && self.state.is_idle() => {
                self.state.enter(Phase::Head);
            }
            Poll::Ready(_) => {}
        }
        result
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.state.expired.get() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        // With no request at hand it can only be hyper's own refusal of what it could not parse.
        if matches!(self.state.phase.get(), Phase::Idle | Phase::Head) {
            return self.poll_refuse(cx, buf);
        }
        let result = self.stream()?.poll_write(cx, buf);
        match result {
            Poll::Pending => self.state.remember(cx.waker()),
            Poll::Ready(_) => self.state.since.set(self.state.clock.now()),
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.stream()?.poll_flush(cx))?;
        // hyper flushes when it has written everything it has.
        if self.state.phase.get() == Phase::Answering(true) {
            self.state.enter(Phase::Idle);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state.reset.get() {
            return Poll::Ready(Ok(())); // the end comes as a reset, when dropped
        }
        self.stream()?.poll_shutdown(cx)
    }
}

impl Drop for ClientIo {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        if self.state.reset.get() {
            let _ = stream.tcp().set_zero_linger();
        } else if self.state.linger.get() && tokio::runtime::Handle::try_current().is_ok() {
            tokio::task::spawn_local(drain(stream, self.state.clone()));
        }
    }
}

/// Closing a socket with unread bytes resets it, and the client may lose our answer; so the rest is read first.
async fn drain(mut stream: ClientStream, _counted: Rc<ClientState>) {
    let rest = async {
        stream.shutdown().await?;
        let mut sink = [0; 4096];
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            match stream.read(&mut sink).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        io::Result::Ok(())
    };
    // Whatever happens here, the connection is over.
    let _ = tokio::time::timeout(LINGER_MAX, rest).await;
}
