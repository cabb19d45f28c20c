//! Heads of upstream answers, read and made clean.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use crate::hygiene::{is_hop_by_hop, nominated};
use crate::limits::{ANSWER_HEAD_BYTES_MAX, HEADERS_MAX};

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct AnswerHead {
    /// Its status.
    pub(crate) status: StatusCode,
    /// End-to-end headers; `content-length` only where there is no body to tell it.
    pub(crate) headers: HeaderMap,
    /// How its body is delimited.
    pub(crate) framing: Framing,
    /// True if the connection may be used again afterwards.
    pub(crate) keep_alive: bool,
}

/// How a body is delimited. A body that only ends with the connection is not among them: cut short it would
/// look complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunked coding.
    Chunked,
}

/// Why an answer cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error("the answer's head is not HTTP/1")]
    Malformed,
    #[error("the answer's head is too large")]
    TooLarge,
    #[error("the answer's length is not certain")]
    Framing,
    #[error("the answer switches protocols, which was not asked for")]
    Switching,
}

/// Takes the head of the final answer to a `method` request from `input`; interim ones are dropped.
/// `None` if it is not there as a whole yet.
pub(crate) fn take_head(input: &mut BytesMut, method: &Method) -> Result<Option<AnswerHead>, AnswerError> {
    loop {
        let Some(end) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return if input.len() < ANSWER_HEAD_BYTES_MAX { Ok(None) } else { Err(AnswerError::TooLarge) };
        };
        if end > ANSWER_HEAD_BYTES_MAX {
            return Err(AnswerError::TooLarge);
        }
        let head = input.split_to(end + 4).freeze();
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let parser = httparse::ParserConfig::default();
        match parser.parse_response_with_uninit_headers(&mut parsed, &head, &mut headers) {
            // Anything but the whole means that a line ended in a way we do not accept.
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(AnswerError::TooLarge),
            Ok(_) | Err(_) => return Err(AnswerError::Malformed),
        }
        let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(AnswerError::Malformed)?;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(AnswerError::Switching);
        }
        if !status.is_informational() {
            let minor = parsed.version.unwrap_or_default();
            return clean(status, minor, method, &head, parsed.headers).map(Some);
        }
    }
}

fn clean(
    status: StatusCode,
    minor: u8,
    method: &Method,
    head: &Bytes,
    raw: &[httparse::Header<'_>],
) -> Result<AnswerHead, AnswerError> {
    let mut seen = Seen { keep_alive: minor == 1, ..Seen::default() };
    let mut headers = HeaderMap::with_capacity(raw.len());
    let mut connection: Option<Bytes> = None;
    for header in raw {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| AnswerError::Malformed)?;
        let value = head.slice_ref(header.value);
        match name {
            header::CONTENT_LENGTH => seen.length(&value)?,
            header::TRANSFER_ENCODING => seen.coding(&value, minor)?,
            header::CONNECTION => {
                seen.connection(&value);
                connection = Some(match connection {
                    None => value,
                    Some(before) => Bytes::from([&before[..], b",", &value[..]].concat()),
                });
            }
            name if is_hop_by_hop(&name) => {}
            name => {
                let value = HeaderValue::from_maybe_shared(value).map_err(|_| AnswerError::Malformed)?;
                headers.append(name, value);
            }
        }
    }
    for name in connection.iter().flat_map(|value| nominated(value)) {
        headers.remove(name);
    }
    let bodiless =
        *method == Method::HEAD || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let framing = match (bodiless, seen.chunked, seen.length) {
        (true, ..) => {
            if let (Some(length), true) = (seen.length, status != StatusCode::NO_CONTENT) {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
            Framing::None
        }
        (false, true, None) => Framing::Chunked,
        (false, false, Some(0)) => Framing::None,
        (false, false, Some(length)) => Framing::Length(length),
        (false, ..) => return Err(AnswerError::Framing),
    };
    Ok(AnswerHead { status, headers, framing, keep_alive: seen.keep_alive })
}

/// What the headers about the connection say.
#[derive(Debug, Default)]
struct Seen {
    length: Option<u64>,
    chunked: bool,
    keep_alive: bool,
}

impl Seen {
    fn length(&mut self, value: &[u8]) -> Result<(), AnswerError> {
        let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let length = digits.and_then(|text| text.parse().ok()).ok_or(AnswerError::Framing)?;
        if self.length.is_some_and(|before| before != length) {
            return Err(AnswerError::Framing);
        }
        self.length = Some(length);
        Ok(())
    }

    fn coding(&mut self, value: &[u8], minor: u8) -> Result<(), AnswerError> {
        if self.chunked || minor == 0 || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(AnswerError::Framing);
        }
        self.chunked = true;
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for token in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                self.keep_alive = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str, method: &Method) -> Result<Option<AnswerHead>, AnswerError> {
        take_head(&mut BytesMut::from(text.as_bytes()), method)
    }

    fn framing(text: &str) -> Result<Framing, AnswerError> {
        take(text, &Method::GET).map(|head| head.unwrap().framing)
    }

    #[test]
    fn the_head_is_taken_and_the_body_left() {
        let mut input = BytesMut::from(&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nhi"[..]);
        let head = take_head(&mut input, &Method::GET).unwrap().unwrap();
        assert_eq!((head.status, head.framing, head.keep_alive), (StatusCode::OK, Framing::Length(2), true));
        assert_eq!(head.headers.len(), 1);
        assert_eq!(&input[..], b"hi");
        assert!(take("HTTP/1.1 200 OK\r\nContent-Le", &Method::GET).unwrap().is_none());
    }

    #[test]
    fn interim_answers_are_dropped() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(take(text, &Method::POST).unwrap().unwrap().status, StatusCode::NO_CONTENT);
        let switching = "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n";
        assert_eq!(take(switching, &Method::GET).unwrap_err(), AnswerError::Switching);
    }

    #[test]
    fn headers_of_the_connection_do_not_pass() {
        let text = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close, X-Secret\r\nx-secret: 1\r\nkeep-alive: 5\r\n\
                    proxy-authenticate: x\r\nupgrade: h2c\r\ntrailer: y\r\nx-open: 2\r\n\r\n";
        let head = take(text, &Method::GET).unwrap().unwrap();
        assert!(!head.keep_alive);
        assert_eq!(head.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-open"]);
    }

    #[test]
    fn a_length_that_is_not_certain_is_an_error() {
        let start = "HTTP/1.1 200 OK\r\n";
        for bad in [
            "",
            "content-length: 1\r\ncontent-length: 2\r\n",
            "content-length: +1\r\n",
            "content-length: 1,1\r\n",
            "content-length: -1\r\n",
            "content-length: 99999999999999999999\r\n",
            "content-length: 1\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: identity\r\n",
        ] {
            assert_eq!(framing(&format!("{start}{bad}\r\n")), Err(AnswerError::Framing), "{bad:?}");
        }
        assert_eq!(
            framing("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
            Err(AnswerError::Framing)
        );
        assert_eq!(
            framing(&format!("{start}content-length: 3\r\ncontent-length: 3\r\n\r\n")),
            Ok(Framing::Length(3))
        );
        assert_eq!(framing(&format!("{start}Transfer-Encoding: Chunked\r\n\r\n")), Ok(Framing::Chunked));
    }

    #[test]
    fn answers_without_a_body_keep_what_they_say_about_it() {
        let head = take("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", &Method::HEAD).unwrap().unwrap();
        assert_eq!(
            (head.framing, head.headers[header::CONTENT_LENGTH].as_bytes()),
            (Framing::None, &b"10"[..])
        );
        let head = take("HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n", &Method::GET).unwrap().unwrap();
        assert_eq!(head.framing, Framing::None);
        let head =
            take("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", &Method::GET).unwrap().unwrap();
        assert!(head.headers.is_empty());
    }

    #[test]
    fn endless_heads_are_refused() {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(ANSWER_HEAD_BYTES_MAX));
        assert_eq!(take(&long, &Method::GET).unwrap_err(), AnswerError::TooLarge);
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(take(&many, &Method::GET).unwrap_err(), AnswerError::TooLarge);
        assert_eq!(take("garbage\r\n\r\n", &Method::GET).unwrap_err(), AnswerError::Malformed);
    }
}
