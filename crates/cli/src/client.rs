//! Talking to the control plane's API.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dujiang_identity::{Expect, Identity, Role, http_client};
use dujiang_types::error::PROBLEM_MEDIA_TYPE;
use dujiang_types::{Kind, Problem};
use futures_util::StreamExt as _;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
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
/// The same where others can be asked instead.
const OTHERS_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest event of a watch: a snapshot of everything, bounded like any answer.
const EVENT_BYTES_MAX: usize = 64 << 20;
/// How long another server is looked for while one changes over to the next: longer than that takes.
const CHANGE_OVER_MAX: Duration = Duration::from_secs(6);
/// Pause after all servers were tried.
const ROUND_PAUSE: Duration = Duration::from_millis(200);

/// A client of one control plane, which may consist of several servers: they are tried in turn.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    servers: Vec<String>,
    /// The one that answered last.
    current: Arc<AtomicUsize>,
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
        match context.controls() {
            [] => Self::new(&Running::read(context.data())?.control, &context.operator()?),
            given => Self::new(given, &context.operator()?),
        }
    }

    /// For the control plane of the servers at these URLs.
    pub fn new(urls: &[String], identity: &Identity) -> Result<Self, Failure> {
        let whole = |url: &String| {
            let scheme = if url.contains("://") { "" } else { "https://" };
            format!("{scheme}{}", url.trim_end_matches('/'))
        };
        if let Some(plain) = urls.iter().find(|url| url.starts_with("http://")) {
            return Err(Failure::usage(format!("{plain} is not secured"))
                .hint("the control plane speaks TLS: write https://HOST:PORT"));
        }
        let http = http_client(identity, Expect::roles(&[Role::Control]))
            .map_err(|e| Failure::because("the identity cannot be used", &e))?
            .connect_timeout(CONNECT_TIMEOUT)
            .build();
        let http = http.map_err(|e| Failure::because("cannot make an HTTP client", &e))?;
        Ok(Self { http, servers: urls.iter().map(whole).collect(), current: Arc::default() })
    }

    /// The URLs of the servers.
    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    /// The server to ask next.
    fn server(&self) -> &str {
        &self.servers[self.current.load(Ordering::Relaxed) % self.servers.len()]
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

    /// `POST` without a body to every server; the URLs of those that did not do it, each with the reason.
    pub async fn post_to_all(&self, path: &str) -> Vec<(String, Failure)> {
        let mut failed = Vec::new();
        for url in &self.servers {
            let sent = self.http.post(format!("{url}{path}")).timeout(ANSWER_TIMEOUT).send().await;
            match sent {
                Ok(response) if response.status().is_success() => {}
                Ok(response) => failed.push((url.clone(), refusal(response).await)),
                Err(error) => failed.push((url.clone(), self.unreachable(&error))),
            }
        }
        failed
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

    /// `DELETE` of what is no resource.
    pub async fn delete_path(&self, path: &str) -> Result<(), Failure> {
        let response = self.send(Method::DELETE, path, None::<&()>, HeaderMap::new()).await?;
        if response.status().is_success() { Ok(()) } else { Err(refusal(response).await) }
    }

    /// Opens a watch. It lasts until the server ends it.
    pub async fn watch(&self, path: &str) -> Result<Watch, Failure> {
        let response = self.try_servers(true, || self.http.get(format!("{}{path}", self.server()))).await?;
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
        let repeatable = method.is_safe();
        // Another one may answer what this one does not.
        let timeout = if repeatable && self.servers.len() > 1 { OTHERS_TIMEOUT } else { ANSWER_TIMEOUT };
        let request = || {
            let request = self.http.request(method.clone(), format!("{}{path}", self.server()));
            let request = request.timeout(timeout).headers(headers.clone());
            if let Some(body) = body { request.json(body) } else { request }
        };
        self.try_servers(repeatable, request).await
    }

    /// Asks one server after the other until one takes the request. What may have been done by one is not asked of
    /// another, unless it is `repeatable`.
    async fn try_servers(
        &self,
        repeatable: bool,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let deadline = Instant::now() + CHANGE_OVER_MAX;
        let mut tried = 0;
        loop {
            let outcome = request().send().await;
            let elsewhere = match &outcome {
                // It does not decide at the moment, or its store does not answer it: nothing was done.
                Ok(response) => response.status() == StatusCode::SERVICE_UNAVAILABLE,
                Err(error) => error.is_connect() || repeatable,
            };
            tried += 1;
            if !elsewhere || self.servers.len() == 1 || Instant::now() > deadline {
                return outcome.map_err(|e| self.unreachable(&e));
            }
            self.current.fetch_add(1, Ordering::Relaxed);
            if tried % self.servers.len() == 0 {
                tokio::time::sleep(ROUND_PAUSE).await;
            }
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let why = if error.is_timeout() { "does not answer" } else { "cannot be reached" };
        Failure::unreachable(format!("the control plane at {} {why}", self.servers.join(", ")))
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
