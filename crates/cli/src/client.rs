//! Talking to the control plane's API.

use std::time::Duration;

use dujiang_types::error::PROBLEM_MEDIA_TYPE;
use dujiang_types::{Kind, Problem};
use futures_util::StreamExt as _;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::context::Context;
use crate::failure::Failure;
use crate::platform::Running;

/// On one machine a connection is made at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The control plane answers within milliseconds; longer than this it is as good as gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest event of a watch: a snapshot of everything, bounded like any answer.
const EVENT_BYTES_MAX: usize = 64 << 20;

/// A client of one control plane.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

/// What must be true of the resource for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// It does not exist.
    Absent,
    /// It has this revision.
    Revision(u64),
}

impl Precondition {
    fn header(self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        match self {
            Self::Absent => headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*")),
            Self::Revision(revision) => {
                let value = HeaderValue::from_str(&format!("\"{revision}\""));
                // Digits in quotes are a valid header.
                value.ok().and_then(|value| headers.insert(IF_MATCH, value))
            }
        };
        headers
    }
}

/// An event of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `snapshot`, `put`, `delete`, ...
    pub name: String,
    /// Its JSON.
    pub data: String,
}

impl Client {
    /// For the control plane the context names, or the one of the platform in its folder.
    pub fn of(context: &Context) -> Result<Self, Failure> {
        let url = match context.control() {
            Some(url) => url.to_owned(),
            None => Running::read(context.data())?.control,
        };
        Self::new(&url)
    }

    /// For the control plane at this URL.
    pub fn new(url: &str) -> Result<Self, Failure> {
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy().build();
        let http = http.map_err(|e| Failure::because("cannot make an HTTP client", &e))?;
        Ok(Self { http, base: url.trim_end_matches('/').to_owned() })
    }

    /// The URL.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `GET` that gives JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(Method::GET, path, None::<&()>, HeaderMap::new()).await
    }

    /// `GET` that gives JSON, or `None` if there is no such thing.
    pub async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Failure> {
        match self.send(Method::GET, path, None::<&()>, HeaderMap::new()).await? {
            response if response.status() == 404 => Ok(None),
            response => read(response).await.map(Some),
        }
    }

    /// `POST` of JSON that gives JSON.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.call(Method::POST, path, Some(body), HeaderMap::new()).await
    }

    /// `PUT` of a resource's labels and spec.
    pub async fn put(
        &self,
        kind: Kind,
        name: &str,
        body: &impl Serialize,
        precondition: Option<Precondition>,
    ) -> Result<Value, Failure> {
        let headers = precondition.map(Precondition::header).unwrap_or_default();
        self.call(Method::PUT, &path_of(kind, name), Some(body), headers).await
    }

    /// `DELETE` of a resource.
    pub async fn delete(
        &self,
        kind: Kind,
        name: &str,
        precondition: Option<Precondition>,
    ) -> Result<(), Failure> {
        let headers = precondition.map(Precondition::header).unwrap_or_default();
        let response = self.send(Method::DELETE, &path_of(kind, name), None::<&()>, headers).await?;
        if response.status().is_success() { Ok(()) } else { Err(refusal(response).await) }
    }

    /// Opens a watch. It lasts until the server ends it.
    pub async fn watch(&self, path: &str) -> Result<Watch, Failure> {
        let request = self.http.get(format!("{}{path}", self.base));
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        Ok(Watch { response, buffer: Vec::new() })
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        headers: HeaderMap,
    ) -> Result<T, Failure> {
        read(self.send(method, path, body, headers).await?).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        headers: HeaderMap,
    ) -> Result<Response, Failure> {
        let request = self.http.request(method, format!("{}{path}", self.base));
        let request = request.timeout(ANSWER_TIMEOUT).headers(headers);
        let request = if let Some(body) = body { request.json(body) } else { request };
        request.send().await.map_err(|e| self.unreachable(&e))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let why = if error.is_timeout() { "does not answer" } else { "cannot be reached" };
        Failure::unreachable(format!("the control plane at {} {why}", self.base))
            .hint("is the platform running? `dujiang status` tells, `dujiang up` starts it; --control URL names another one")
    }
}

/// Path of a resource.
pub fn path_of(kind: Kind, name: &str) -> String {
    format!("/v1/{}/{name}", kind.plural())
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, Failure> {
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    response.json().await.map_err(|e| Failure::because("the control plane's answer cannot be read", &e))
}

async fn refusal(response: Response) -> Failure {
    let status = response.status();
    let is_problem = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|v| v.as_bytes().starts_with(PROBLEM_MEDIA_TYPE.as_bytes()));
    match response.json::<Problem>().await {
        Ok(problem) if is_problem => problem.into(),
        _ => Failure::failed(format!("the control plane answered {status}")),
    }
}

/// An open watch.
#[derive(Debug)]
pub struct Watch {
    response: Response,
    buffer: Vec<u8>,
}

impl Watch {
    /// The next event; `None` when the server has ended the watch or the connection broke.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = take_event(&mut self.buffer) {
                return Some(event);
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) if self.buffer.len() + chunk.len() <= EVENT_BYTES_MAX => {
                    self.buffer.extend_from_slice(&chunk);
                }
                _ => return None,
            }
        }
    }

    /// The events as a stream.
    pub fn into_stream(self) -> impl futures_util::Stream<Item = Event> {
        futures_util::stream::unfold(self, |mut watch| async {
            watch.next().await.map(|event| (event, watch))
        })
        .fuse()
    }
}

/// Takes the first whole event out of what was received. Comments (`:` lines) are passed over.
fn take_event(buffer: &mut Vec<u8>) -> Option<Event> {
    loop {
        let end = buffer.windows(2).position(|pair| pair == b"\n\n")?;
        let block: Vec<u8> = buffer.drain(..end + 2).collect();
        let block = String::from_utf8_lossy(&block);
        let mut event = Event { name: "message".to_owned(), data: String::new() };
        for line in block.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut event.name),
                "data" if event.data.is_empty() => value.clone_into(&mut event.data),
                "data" => {
                    event.data.push('\n');
                    event.data.push_str(value);
                }
                _ => {}
            }
        }
        if !event.data.is_empty() {
            return Some(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_out_of_the_stream_whole() {
        let mut buffer = b": keep-alive\n\nevent: put\nid: 7\ndata: {\"a\":\ndata: 1}\n\nevent: del".to_vec();
        let event = take_event(&mut buffer).unwrap();
        assert_eq!(event, Event { name: "put".to_owned(), data: "{\"a\":\n1}".to_owned() });
        assert_eq!(take_event(&mut buffer), None);
        assert_eq!(buffer, b"event: del");
    }
}
