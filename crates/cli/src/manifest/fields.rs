//! Taking a tree apart: every reader gives a value or notes a mistake, and goes on.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::mistake::{Mistakes, nearest};
use super::tree::{Key, Node, Place, Value};

/// A value that was read, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// Where it stands.
    pub at: Place,
    /// The value.
    pub value: T,
}

/// A mapping whose known fields are about to be read.
#[derive(Debug)]
pub struct Fields<'a> {
    /// Where the mapping begins.
    pub at: Place,
    entries: BTreeMap<&'a str, (&'a Key, &'a Node)>,
}

impl<'a> Fields<'a> {
    /// Takes a node as a mapping with these fields. Notes what is unknown or stands there twice.
    pub fn of(node: &'a Node, what: &str, known: &[&str], mistakes: &mut Mistakes) -> Option<Self> {
        let Value::Map(map) = &node.value else {
            let right = format!("write a mapping with {}", list(known));
            mistakes.add(node.at, format!("{what} is {}", describe(&node.value)), right);
            return None;
        };
        let mut entries: BTreeMap<&str, (&Key, &Node)> = BTreeMap::new();
        for (key, value) in map {
            if !known.contains(&key.text.as_str()) {
                let right = match nearest(&key.text, known.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("the fields of {what} are {}", list(known)),
                };
                mistakes.add(key.at, format!("unknown field `{}`", key.text), right);
            } else if let Some((first, _)) = entries.get(key.text.as_str()) {
                let right = format!("keep one of them (the first is in line {})", first.at.line);
                mistakes.add(key.at, format!("field `{}` stands here twice", key.text), right);
            } else {
                entries.insert(&key.text, (key, value));
            }
        }
        Some(Self { at: node.at, entries })
    }

    /// The node of a field, if it was written.
    pub fn optional(&self, name: &str) -> Option<&'a Node> {
        self.entries.get(name).map(|(_, node)| *node)
    }

    /// Where a field's key stands; the mapping's beginning if it was not written.
    pub fn place(&self, name: &str) -> Place {
        self.entries.get(name).map_or(self.at, |(key, _)| key.at)
    }

    /// The node of a field that has to be there; `example` shows how it is written.
    pub fn required(&self, name: &str, example: &str, mistakes: &mut Mistakes) -> Option<&'a Node> {
        let node = self.optional(name);
        if node.is_none() {
            mistakes.add(
                self.at,
                format!("field `{name}` is missing"),
                format!("write for example `{name}: {example}`"),
            );
        }
        node
    }

    /// A field that is written as text and parsed.
    pub fn parsed<T>(&self, name: &str, example: &str, mistakes: &mut Mistakes) -> Option<At<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        parsed(self.required(name, example, mistakes)?, name, example, mistakes)
    }

    /// A whole number within bounds.
    pub fn number(
        &self,
        name: &str,
        bounds: RangeInclusive<u16>,
        example: &str,
        mistakes: &mut Mistakes,
    ) -> Option<At<u16>> {
        let node = self.required(name, example, mistakes)?;
        let value = match node.value {
            Value::Int(value) => u16::try_from(value).ok().filter(|value| bounds.contains(value)),
            _ => None,
        };
        if value.is_none() {
            let right = format!("write a whole number from {} to {}", bounds.start(), bounds.end());
            mistakes.add(node.at, format!("`{name}` is {}", describe(&node.value)), right);
        }
        value.map(|value| At { at: node.at, value })
    }

    /// One word out of a few.
    pub fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)], mistakes: &mut Mistakes) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let node = self.required(name, words[0], mistakes)?;
        let found = match &node.value {
            Value::Text(text) => choices.iter().find(|(word, _)| word == text).map(|(_, value)| *value),
            _ => None,
        };
        if found.is_none() {
            let meant = match &node.value {
                Value::Text(text) => nearest(text, words.iter().copied()),
                _ => None,
            };
            let right = meant.map_or_else(
                || format!("write one of {}", list(&words)),
                |meant| format!("did you mean `{meant}`?"),
            );
            mistakes.add(node.at, format!("`{name}` is {}", describe(&node.value)), right);
        }
        found
    }

    /// The items of a list that has to be there and not empty.
    pub fn items(&self, name: &str, example: &str, mistakes: &mut Mistakes) -> &'a [Node] {
        let Some(node) = self.required(name, example, mistakes) else { return &[] };
        match &node.value {
            Value::List(list) if !list.is_empty() => list,
            other => {
                let wrong = match other {
                    Value::List(_) => format!("`{name}` is empty"),
                    other => format!("`{name}` is {}", describe(other)),
                };
                mistakes.add(node.at, wrong, format!("write a list, for example `{name}: {example}`"));
                &[]
            }
        }
    }

    /// A list whose items are parsed; one that stands there twice is noted.
    pub fn parsed_items<T>(&self, name: &str, example: &str, mistakes: &mut Mistakes) -> Vec<At<T>>
    where
        T: FromStr + PartialEq + Display,
        T::Err: Display,
    {
        let mut items: Vec<At<T>> = Vec::new();
        for node in self.items(name, example, mistakes) {
            let Some(item) = parsed::<T>(node, name, example, mistakes) else { continue };
            if items.iter().any(|other| other.value == item.value) {
                mistakes.add(item.at, format!("{} stands in `{name}` twice", item.value), "name it once");
            } else {
                items.push(item);
            }
        }
        items
    }
}

/// Text of a scalar: a number is taken as it was written.
pub fn text(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

fn parsed<T>(node: &Node, name: &str, example: &str, mistakes: &mut Mistakes) -> Option<At<T>>
where
    T: FromStr,
    T::Err: Display,
{
    let Some(text) = text(node) else {
        let wrong = format!("`{name}` is {}", describe(&node.value));
        mistakes.add(node.at, wrong, format!("write for example `{example}`"));
        return None;
    };
    match text.parse() {
        Ok(value) => Some(At { at: node.at, value }),
        Err(error) => {
            let error = error.to_string();
            // Our own types say both in one sentence: "X is not a name: 1 to 63 of ...".
            let (wrong, right) = match error.split_once(": ") {
                Some((wrong, right)) => (format!("`{name}`: {wrong}"), right.to_owned()),
                None => (
                    format!("`{name}`: {text:?} is wrong ({error})"),
                    format!("write for example `{example}`"),
                ),
            };
            mistakes.add(node.at, wrong, right);
            None
        }
    }
}

/// What a value is, for messages.
pub fn describe(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Int(value) => format!("{value}"),
        Value::Text(text) => format!("{text:?}"),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
    }
}

/// `a`, `b` and `c`.
fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
