//! What of a request passes on, and what is refused at the door.
//!
//! hyper has parsed the request strictly (no folded lines, no space before a colon, no conflicting lengths). What
//! it still lets through and two servers could read differently is refused here. The request is then written
//! anew from its parts, so nothing of the client's own framing ever reaches an instance.

use std::net::IpAddr;

use dujiang_routing::{HeaderText, Refusal};
use dujiang_types::Code;
use dujiang_types::api::{HEADER_EPOCH, HEADER_HOP, HEADER_IDEMPOTENCY_KEY, HEADER_UNIT};
use http::header::{self, HeaderMap, HeaderName};
use http::{Method, Version, request};

/// True for headers that are about one connection and never pass.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::TE
            | header::TRAILER
            | header::TRANSFER_ENCODING
            | header::UPGRADE
            | header::PROXY_AUTHENTICATE
            | header::PROXY_AUTHORIZATION
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Names of headers that a `Connection` header declares to be about the connection only. Those that frame or
/// address the message cannot be declared away.
pub(crate) fn nominated(value: &[u8]) -> impl Iterator<Item = HeaderName> + '_ {
    value
        .split(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.eq_ignore_ascii_case(b"close") && !token.eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| !matches!(*name, header::HOST | header::CONTENT_LENGTH | header::TRANSFER_ENCODING))
}

fn refused<T>(detail: &'static str) -> Result<T, Refusal> {
    Err(Refusal { code: Code::RequestInvalid, detail })
}

/// A request that may be forwarded.
pub(crate) struct Vetted<'r> {
    /// The request.
    pub(crate) parts: &'r request::Parts,
    /// Path and query, always starting with `/`.
    pub(crate) path: &'r str,
    /// Names the client declared to be about the connection only; usually none.
    nominated: Vec<HeaderName>,
}

impl<'r> Vetted<'r> {
    /// Refuses what different servers could understand differently.
    pub(crate) fn new(parts: &'r request::Parts) -> Result<Self, Refusal> {
        if matches!(parts.method, Method::CONNECT | Method::TRACE) {
            return Err(Refusal {
                code: Code::MethodNotAllowed,
                detail: "CONNECT and TRACE are not served.",
            });
        }
        let path = match parts.uri.path_and_query() {
            Some(path) if path.as_str().starts_with('/') => path.as_str(),
            _ => return refused("The request target must be a path."),
        };
        check_host(parts)?;
        check_coding(&parts.headers)?;
        let lines = parts.headers.get_all(header::CONNECTION).into_iter();
        let nominated = lines.flat_map(|line| nominated(line.as_bytes())).collect();
        Ok(Self { parts, path, nominated })
    }

    /// A header as the instance will see it.
    pub(crate) fn header(&self, name: &str) -> HeaderText<'r> {
        let mut values = self.parts.headers.get_all(name).into_iter();
        match (values.next(), values.next()) {
            (Some(_), _) if self.nominated.iter().any(|n| n.as_str() == name) => HeaderText::Absent,
            (None, _) => HeaderText::Absent,
            (Some(value), None) => HeaderText::One(value.as_bytes()),
            (Some(_), Some(_)) => HeaderText::Many,
        }
    }

    /// True if the request may be sent again although it may have been executed: it changes nothing, or it
    /// carries the key by which the application recognises it.
    pub(crate) fn repeatable(&self) -> bool {
        self.reads() || matches!(self.header(HEADER_IDEMPOTENCY_KEY), HeaderText::One(key) if !key.is_empty())
    }

    /// True if the request changes nothing.
    pub(crate) fn reads(&self) -> bool {
        matches!(self.parts.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }

    /// Writes request line and end-to-end headers. What differs from attempt to attempt (unit, epoch, hop,
    /// length) and the empty line are left to [`finish`](finish_head).
    pub(crate) fn write(&self, out: &mut Vec<u8>, from: &From, trace: &mut dyn FnMut() -> [u8; TRACE_LEN]) {
        let headers = &self.parts.headers;
        out.extend_from_slice(self.parts.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.path.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let keep_trace = matches!(self.header(TRACEPARENT), HeaderText::One(value) if is_traceparent(value));
        let mut host = false;
        for (name, value) in headers {
            if self.drops(name, from, keep_trace) {
                continue;
            }
            host |= *name == header::HOST;
            line(out, name.as_str().as_bytes(), value.as_bytes());
        }
        if !host {
            // HTTP/1.0 without a Host header: the line is required in what we send.
            let authority = self.parts.uri.authority().map_or("", http::uri::Authority::as_str);
            line(out, b"host", authority.as_bytes());
        }
        if !keep_trace {
            line(out, TRACEPARENT.as_bytes(), &trace());
        }
        if let From::Client { address, text } = from {
            forwarded_for(out, headers, text);
            forwarded(out, headers, *address);
        }
    }

    fn drops(&self, name: &HeaderName, from: &From, keep_trace: bool) -> bool {
        if *name == header::CONTENT_LENGTH || *name == header::EXPECT || is_hop_by_hop(name) {
            return true;
        }
        let text = name.as_str();
        let ours = matches!(text, HEADER_UNIT | HEADER_EPOCH | HEADER_HOP)
            || matches!(text, TRACEPARENT | "tracestate") && !keep_trace
            || matches!(text, X_FORWARDED_FOR | "forwarded") && matches!(from, From::Client { .. });
        ours || self.nominated.contains(name)
    }
}

/// Where a request comes from.
pub(crate) enum From {
    /// A client: what it says about who is behind it is only a claim, so its address is added.
    Client {
        /// The connection's other end.
        address: IpAddr,
        /// The same as text.
        text: String,
    },
    /// Another gateway, which has added it already.
    Gateway,
}

const TRACEPARENT: &str = "traceparent";
const X_FORWARDED_FOR: &str = "x-forwarded-for";
/// `00-` 32 hex `-` 16 hex `-` 2 hex.
pub(crate) const TRACE_LEN: usize = 55;

/// A new trace context from 24 random bytes, not sampled: that is for whoever traces to decide.
pub(crate) fn new_traceparent(random: [u64; 3]) -> [u8; TRACE_LEN] {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    // An all-zero id is invalid; setting one bit of each excludes it.
    hex(random[0] | 1, &mut text[3..19]);
    hex(random[1], &mut text[19..35]);
    hex(random[2] | 1, &mut text[36..52]);
    text
}

fn hex(mut value: u64, out: &mut [u8]) {
    for place in out.iter_mut().rev() {
        *place = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn is_traceparent(value: &[u8]) -> bool {
    let lower_hex = |part: &[u8]| part.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    let nonzero = |part: &[u8]| part.iter().any(|b| *b != b'0');
    value.len() == TRACE_LEN
        && value.starts_with(b"00-")
        && value[35] == b'-'
        && value[52] == b'-'
        && [&value[3..35], &value[36..52], &value[53..55]].into_iter().all(lower_hex)
        && nonzero(&value[3..35])
        && nonzero(&value[36..52])
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn forwarded_for(out: &mut Vec<u8>, headers: &HeaderMap, client: &str) {
    out.extend_from_slice(X_FORWARDED_FOR.as_bytes());
    out.extend_from_slice(b": ");
    for value in headers.get_all(X_FORWARDED_FOR) {
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(client.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The standard form is only kept up if somebody before us uses it; everybody reads the other one.
fn forwarded(out: &mut Vec<u8>, headers: &HeaderMap, client: IpAddr) {
    if !headers.contains_key(header::FORWARDED) {
        return;
    }
    out.extend_from_slice(b"forwarded: ");
    for value in headers.get_all(header::FORWARDED) {
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b", ");
    }
    let element = match client {
        IpAddr::V4(address) => format!("for={address}"),
        IpAddr::V6(address) => format!("for=\"[{address}]\""),
    };
    out.extend_from_slice(element.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Exactly one sane Host, which agrees with the target if that is an absolute URL.
fn check_host(parts: &request::Parts) -> Result<(), Refusal> {
    let mut hosts = parts.headers.get_all(header::HOST).into_iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.as_bytes(),
        (None, _) if parts.version == Version::HTTP_10 => return Ok(()),
        (None, _) => return refused("The Host header is missing."),
        (Some(_), Some(_)) => return refused("The Host header stands more than once."),
    };
    let sane = |b: &u8| b.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(b);
    if !host.iter().all(sane) {
        return refused("The Host header is not a host with an optional port.");
    }
    match parts.uri.authority() {
        Some(authority) if !authority.as_str().as_bytes().eq_ignore_ascii_case(host) => {
            refused("The request target names another host than the Host header.")
        }
        _ => Ok(()),
    }
}

/// No coding but `chunked`, once: another one would be lost, since the body is framed anew.
fn check_coding(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).into_iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            if headers.contains_key(header::CONTENT_LENGTH) {
                return refused("Content-Length and Transfer-Encoding contradict each other.");
            }
            Ok(())
        }
        _ => refused("Transfer-Encoding can only be \"chunked\"."),
    }
}

#[cfg(test)]
mod tests;
