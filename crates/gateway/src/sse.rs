//! Parser of server-sent events, for the watch of the routing table.

use crate::limits::EVENT_BYTES_MAX;

/// One event.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its name; empty if it has none.
    pub(crate) name: String,
    /// Its data lines, joined by line feeds.
    pub(crate) data: String,
}

/// The events in a stream of bytes.
#[derive(Debug, Default)]
pub(crate) struct Events {
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    after_cr: bool,
}

/// An event or line is larger than any routing table can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {EVENT_BYTES_MAX} bytes")]
pub(crate) struct EventTooLarge;

impl Events {
    /// Takes bytes in; returns the events they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, EventTooLarge> {
        let mut complete = Vec::new();
        for &byte in bytes {
            let ends = byte == b'\r' || byte == b'\n';
            // A carriage return ends a line, and a line feed right behind it belongs to it.
            if byte == b'\n' && std::mem::take(&mut self.after_cr) {
                continue;
            }
            self.after_cr = byte == b'\r';
            if ends {
                complete.extend(self.end_line());
            } else if self.line.len() + self.event.data.len() < EVENT_BYTES_MAX {
                self.line.push(byte);
            } else {
                return Err(EventTooLarge);
            }
        }
        Ok(complete)
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            _ => {} // comments keep the connection alive; ids and retry times are not used
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_are_found_however_lines_end() {
        let text = b": hello\n\nevent: table\r\nid: 3\r\ndata: {\"a\":\r\ndata:1}\r\n\r\ndata\rdata:\r\revent: none\n\n";
        let found = Events::default().push(text).unwrap();
        assert_eq!(found, [event("table", "{\"a\":\n1}"), event("", "\n")]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut events = Events::default();
        let piece = vec![b'a'; 1 << 20];
        assert!((0..20).any(|_| events.push(&piece).is_err()));
    }

    proptest! {
        #[test]
        fn cutting_the_stream_changes_nothing(cut in 1_usize..10, data in "[a-z{}\":]{0,30}") {
            let text = format!("event: table\r\ndata: {data}\r\n\r\n:x\n\nevent: table\ndata: 2\n\n");
            let mut events = Events::default();
            let found: Vec<_> = text.as_bytes().chunks(cut).flat_map(|piece| events.push(piece).unwrap()).collect();
            prop_assert_eq!(found, [event("table", &data), event("table", "2")]);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Events::default().push(&bytes);
        }
    }
}
