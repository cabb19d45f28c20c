//! A reader of server-sent events.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::Value;

use crate::plane::DEADLINE;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<u64>,
    pub(crate) data: Value,
}

pub(crate) struct Reader {
    bytes: BoxStream<'static, Vec<u8>>,
    text: Vec<u8>,
    events: VecDeque<Event>,
    pub(crate) comments: usize,
}

impl Reader {
    pub(crate) async fn open(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let bytes =
            response.bytes_stream().map(|bytes| bytes.map(|b| b.to_vec()).unwrap_or_default()).boxed();
        Self { bytes, text: Vec::new(), events: VecDeque::new(), comments: 0 }
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        tokio::time::timeout(DEADLINE, self.read()).await.expect("an event before the deadline")
    }

    /// The next event if it comes soon.
    pub(crate) async fn soon(&mut self, limit: Duration) -> Option<Event> {
        tokio::time::timeout(limit, self.read()).await.ok().flatten()
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            self.text.extend(self.bytes.next().await?);
            while let Some(end) = self.text.windows(2).position(|w| w == b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                self.block(std::str::from_utf8(&block).unwrap());
            }
        }
    }

    fn block(&mut self, block: &str) {
        let mut event = Event { name: "message".to_owned(), id: None, data: Value::Null };
        let mut data = String::new();
        for line in block.lines() {
            match line.split_once(':') {
                Some(("", _)) => self.comments += 1,
                Some(("event", value)) => value.trim_start().clone_into(&mut event.name),
                Some(("id", value)) => event.id = Some(value.trim().parse().unwrap()),
                Some(("data", value)) => data.push_str(value.trim_start()),
                _ => {}
            }
        }
        if !data.is_empty() {
            event.data = serde_json::from_str(&data).unwrap();
            self.events.push_back(event);
        }
    }
}
