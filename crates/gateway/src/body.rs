//! Bodies in both directions.

use std::cell::Cell;
use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::answer::Framing;
use crate::chunked::{Chunked, Step};
use crate::client::ClientState;
use crate::limits::REPLAY_BODY_BYTES_MAX;
use crate::shard::InFlight;
use crate::upstream::{Connection, Target};

/// The body of a request on its way to an instance.
pub(crate) enum Payload {
    /// There is none.
    None,
    /// All of it, so it can be sent again.
    Whole {
        /// The body.
        bytes: Bytes,
        /// Its part of the budget, held as long as the body.
        _claim: Claim,
    },
    /// Sent as it comes, once.
    Stream(Streamed),
}

/// A body that is sent as it comes.
pub(crate) struct Streamed {
    first: Option<Bytes>,
    rest: Incoming,
    /// Its length, if the client said so.
    pub(crate) length: Option<u64>,
    bytes: u64,
    bytes_max: u64,
    /// True once something of it was taken: it cannot be sent again.
    pub(crate) begun: bool,
}

/// Why a client's body cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PayloadError {
    #[error("the body is larger than the limit")]
    TooLarge,
    #[error("the body did not arrive in time")]
    Slow,
    #[error("the body broke off")]
    Broken,
    #[error("the body is malformed")]
    Malformed,
}

impl PayloadError {
    /// What is malformed stays so; what broke off may arrive whole another time.
    fn of(error: &hyper::Error) -> Self {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        match cause.map(io::Error::kind) {
            Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => Self::Malformed,
            _ => Self::Broken,
        }
    }
}

/// Memory that bodies of one thread may occupy.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Rc<Cell<usize>>);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Rc::new(Cell::new(bytes)))
    }

    fn claim(&self, bytes: usize) -> Option<Claim> {
        let left = self.0.get().checked_sub(bytes)?;
        self.0.set(left);
        Some(Claim { budget: self.0.clone(), bytes })
    }
}

/// A part of the budget, given back when dropped.
pub(crate) struct Claim {
    budget: Rc<Cell<usize>>,
    bytes: usize,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.budget.set(self.budget.get() + self.bytes);
    }
}

impl Payload {
    /// Takes a client's body: as a whole if it is small and memory is left, else as a stream.
    pub(crate) async fn take(
        mut body: Incoming,
        budget: &Budget,
        bytes_max: u64,
        read_max: Duration,
    ) -> Result<Self, PayloadError> {
        if body.is_end_stream() {
            return Ok(Self::None);
        }
        let length = body.size_hint().exact();
        if length.is_some_and(|length| length > bytes_max) {
            return Err(PayloadError::TooLarge);
        }
        let wanted = length.map_or(REPLAY_BODY_BYTES_MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let claim = if wanted > REPLAY_BODY_BYTES_MAX { None } else { budget.claim(wanted) };
        let stream =
            |first, rest| Self::Stream(Streamed { first, rest, length, bytes: 0, bytes_max, begun: false });
        let Some(claim) = claim else { return Ok(stream(None, body)) };
        let read =
            tokio::time::timeout(read_max, whole(&mut body)).await.map_err(|_| PayloadError::Slow)??;
        Ok(match read {
            Read::Whole(bytes) => Self::Whole { bytes, _claim: claim },
            Read::Begun(bytes) => stream(Some(bytes), body),
        })
    }

    /// True if it can be sent (again) from its first byte.
    pub(crate) fn is_unspent(&self) -> bool {
        match self {
            Self::None | Self::Whole { .. } => true,
            Self::Stream(stream) => !stream.begun,
        }
    }
}

enum Read {
    Whole(Bytes),
    Begun(Bytes),
}

/// Reads a body until its end or until it is too large to be kept.
async fn whole(body: &mut Incoming) -> Result<Read, PayloadError> {
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Trailers are dropped: nothing here needs them, and not every server reads them alike.
        let Ok(data) = frame.map_err(|error| PayloadError::of(&error))?.into_data() else { continue };
        if first.is_empty() && more.is_empty() {
            first = data;
        } else {
            if more.is_empty() {
                more.extend_from_slice(&first);
            }
            more.extend_from_slice(&data);
        }
        if first.len().max(more.len()) > REPLAY_BODY_BYTES_MAX {
            return Ok(Read::Begun(if more.is_empty() { first } else { more.freeze() }));
        }
    }
    Ok(Read::Whole(if more.is_empty() { first } else { more.freeze() }))
}

impl Streamed {
    /// The next piece; `None` at the end.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, PayloadError>> {
        self.begun = true;
        let data = match self.first.take() {
            Some(first) => Some(first),
            None => loop {
                match ready!(Pin::new(&mut self.rest).poll_frame(cx)) {
                    None => break None,
                    Some(Err(error)) => return Poll::Ready(Err(PayloadError::of(&error))),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) if data.is_empty() => {}
                        Ok(data) => break Some(data),
                        Err(_trailers) => {}
                    },
                }
            },
        };
        self.bytes += data.as_ref().map_or(0, |data| data.len() as u64);
        let result = if self.bytes > self.bytes_max { Err(PayloadError::TooLarge) } else { Ok(data) };
        Poll::Ready(result)
    }
}

/// The body of an answer on its way to a client.
pub(crate) struct AnswerBody(Inner);

enum Inner {
    Whole(Bytes),
    Stream(Box<StreamedAnswer>),
}

/// An answer's body that is passed on as it comes.
struct StreamedAnswer {
    connection: Option<Connection>,
    left: Left,
    reusable: bool,
    target: Rc<Target>,
    client: Rc<ClientState>,
    /// Held until the answer is complete: until then the request is under way.
    _in_flight: Option<InFlight>,
}

enum Left {
    Bytes(u64),
    Chunked(Chunked),
    Nothing,
}

impl AnswerBody {
    /// A body that is all there.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self(Inner::Whole(bytes))
    }

    /// What there is of it, if it is all there.
    pub(crate) fn as_whole(&self) -> Option<&Bytes> {
        match &self.0 {
            Inner::Whole(bytes) => Some(bytes),
            Inner::Stream(_) => None,
        }
    }

    /// The body of the answer whose head was just read from the connection.
    pub(crate) fn of_answer(
        framing: Framing,
        mut connection: Connection,
        reusable: bool,
        target: &Rc<Target>,
        client: &Rc<ClientState>,
        in_flight: Option<InFlight>,
    ) -> Self {
        let left = match framing {
            Framing::None => Left::Bytes(0),
            Framing::Length(length) => Left::Bytes(length),
            Framing::Chunked => Left::Chunked(Chunked::new()),
        };
        if let Left::Bytes(length) = left
            && let Ok(length) = usize::try_from(length)
            && length <= connection.buffer.len()
        {
            let bytes = connection.buffer.split_to(length).freeze();
            if reusable {
                target.put_back(connection);
            }
            return Self::whole(bytes);
        }
        client.answer_streams();
        let (client, target) = (client.clone(), target.clone());
        let connection = Some(connection);
        Self(Inner::Stream(Box::new(StreamedAnswer {
            connection,
            left,
            reusable,
            target,
            client,
            _in_flight: in_flight,
        })))
    }
}

impl StreamedAnswer {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        loop {
            match &mut self.left {
                Left::Nothing => break,
                Left::Bytes(left) if !connection.buffer.is_empty() => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(connection.buffer.len());
                    *left -= take as u64;
                    let data = connection.buffer.split_to(take).freeze();
                    if *left == 0 {
                        self.left = Left::Nothing;
                    }
                    return Poll::Ready(Some(Ok(data)));
                }
                Left::Bytes(_) => {}
                Left::Chunked(decoder) => match decoder.step(&mut connection.buffer) {
                    Ok(Step::Data(data)) => return Poll::Ready(Some(Ok(data))),
                    Ok(Step::End) => {
                        self.left = Left::Nothing;
                        break;
                    }
                    Ok(Step::More) => {}
                    Err(error) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                },
            }
            match ready!(connection.poll_fill(cx)) {
                Ok(0) => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        self.finish();
        Poll::Ready(None)
    }

    fn finish(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.client.answer_ends();
            if self.reusable {
                self.target.put_back(connection);
            }
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = match &mut self.0 {
            Inner::Whole(bytes) if bytes.is_empty() => None,
            Inner::Whole(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Inner::Stream(stream) => {
                let data = ready!(stream.poll_data(cx));
                if matches!(stream.left, Left::Nothing) {
                    stream.finish();
                }
                if let Some(Err(error)) = &data {
                    tracing::debug!(%error, upstream = %stream.target.address, "answer broken off");
                    stream.target.broke();
                    // The client must not take what it has for the whole.
                    stream.client.reset();
                }
                data.map(|data| data.map(Frame::data))
            }
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(bytes) => bytes.is_empty(),
            Inner::Stream(stream) => matches!(stream.left, Left::Nothing),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Stream(stream) => match stream.left {
                Left::Bytes(left) => SizeHint::with_exact(left),
                Left::Nothing => SizeHint::with_exact(0),
                Left::Chunked(_) => SizeHint::default(),
            },
        }
    }
}
