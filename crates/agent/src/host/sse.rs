//! Server-sent events, as far as the control plane sends them.

/// Largest event taken: a snapshot of a large platform is a few megabytes.
const EVENT_BYTES_MAX: usize = 64 << 20;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its name.
    pub(super) name: String,
    /// Its data; several lines are joined by newlines.
    pub(super) data: String,
}

/// Puts events together from the bytes of a response.
#[derive(Debug, Default)]
pub(super) struct Parser {
    buffer: Vec<u8>,
    event: Event,
}

impl Parser {
    /// Takes bytes in and returns the events that are whole now. `None` if an event is larger than any of ours.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<Vec<Event>> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() + self.event.data.len() > EVENT_BYTES_MAX {
            return None;
        }
        let mut events = Vec::new();
        let mut begin = 0;
        while let Some(length) = self.buffer[begin..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.buffer[begin..begin + length]).into_owned();
            events.extend(self.line(line.trim_end_matches('\r')));
            begin += length + 1;
        }
        self.buffer.drain(..begin);
        Some(events)
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return (!event.name.is_empty()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_any_cut() {
        let text = ": hello\r\n\r\nevent: put\nid: 7\ndata: {\"a\":\ndata: 1}\n\nevent:delete\ndata:x\n\n";
        let wanted = [
            Event { name: "put".to_owned(), data: "{\"a\":\n1}".to_owned() },
            Event { name: "delete".to_owned(), data: "x".to_owned() },
        ];
        for cut in 0..text.len() {
            let mut parser = Parser::default();
            let mut events = parser.push(&text.as_bytes()[..cut]).unwrap();
            events.extend(parser.push(&text.as_bytes()[cut..]).unwrap());
            assert_eq!(events, wanted, "cut at {cut}");
        }
    }
}
