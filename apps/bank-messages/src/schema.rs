//! Schemas as data: which elements a message has, in which order, how often, and what they hold.
//!
//! One table per message judges both what is read and what is written. It has the schema's elements in full: those
//! that this bank does not act upon are there as [`Content::Unsupported`], so that a fault can tell "not of this schema"
//! from "not for this bank".

use std::collections::BTreeMap;

use crate::fault::{Fault, FaultCode, Faults, Scope, cut, shown};
pub use crate::value::Value;
use crate::value::amount;
use crate::xml::Element;

/// What an element holds.
#[derive(Debug, Clone, Copy)]
pub enum Content {
    /// These elements, in this order.
    Sequence(&'static [Part]),
    /// Exactly one of these elements.
    Choice(&'static [Part]),
    /// A value.
    Value(Value),
    /// An amount with its currency in the attribute `Ccy`.
    Amount {
        /// Balances may be zero, payments not.
        zero: bool,
    },
    /// The schema has it, this bank does not act upon it.
    Unsupported,
}

/// An element's place in a sequence or choice.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Local name.
    pub name: &'static str,
    /// How often it must be there.
    pub least: usize,
    /// How often it may be there.
    pub most: usize,
    /// What it holds.
    pub content: Content,
}

/// Exactly once.
pub const fn one(name: &'static str, content: Content) -> Part {
    Part { name, least: 1, most: 1, content }
}

/// At most once.
pub const fn maybe(name: &'static str, content: Content) -> Part {
    Part { name, least: 0, most: 1, content }
}

/// At least once.
pub const fn some(name: &'static str, content: Content) -> Part {
    Part { name, least: 1, most: usize::MAX, content }
}

/// Any number of times.
pub const fn any(name: &'static str, content: Content) -> Part {
    Part { name, least: 0, most: usize::MAX, content }
}

/// At most so many times.
pub const fn up_to(most: usize, name: &'static str, content: Content) -> Part {
    Part { name, least: 0, most, content }
}

/// In the schema, but not for this bank.
pub const fn not_here(name: &'static str) -> Part {
    Part { name, least: 0, most: usize::MAX, content: Content::Unsupported }
}

/// Text of at most so many characters.
pub const fn text(max: usize) -> Content {
    Content::Value(Value::Text(max))
}

/// A value of a type.
pub const fn value(value: Value) -> Content {
    Content::Value(value)
}

/// The element that holds a batch, and the ones that hold a transfer: faults below them concern only these.
const BATCH: &str = "PmtInf";
const TRANSFER: &str = "CdtTrfTxInf";

/// Faults by what they refuse. Every transfer that has one is in here, however many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    by_scope: BTreeMap<Scope, Faults>,
}

impl Verdict {
    /// Adds a fault.
    pub fn push(&mut self, fault: Fault) {
        self.by_scope.entry(fault.scope).or_default().push(fault);
    }

    /// What is wrong in that scope, taken out.
    pub fn take(&mut self, scope: Scope) -> Option<Faults> {
        self.by_scope.remove(&scope)
    }

    /// True if something is wrong in that scope.
    pub fn refuses(&self, scope: Scope) -> bool {
        self.by_scope.contains_key(&scope)
    }

    /// All faults, for messages that are taken or refused as a whole.
    pub fn into_result(self) -> Result<(), Faults> {
        let mut all = Faults::default();
        self.by_scope.into_values().for_each(|faults| all.append(faults));
        all.into_result()
    }
}

/// Judges a tree by a schema and collects every fault.
pub fn check(root: &Element, schema: &Part) -> Verdict {
    let mut walk = Walk { path: Vec::new(), batch: None, transfer: None, verdict: Verdict::default() };
    if *root.name == *schema.name {
        walk.element(root, schema, None);
    } else {
        walk.tell(FaultCode::MessageUnexpected, format!("the root element is {}", shown(&root.name)));
    }
    walk.verdict
}

struct Walk<'a> {
    /// Names with their number among their equals, from 1, where there may be several.
    path: Vec<(&'a str, Option<usize>)>,
    batch: Option<usize>,
    transfer: Option<usize>,
    verdict: Verdict,
}

impl<'a> Walk<'a> {
    fn tell(&mut self, code: FaultCode, detail: String) {
        let path = self.path.iter().fold(String::new(), |path, (name, number)| match number {
            Some(number) => format!("{path}/{name}[{number}]"),
            None => format!("{path}/{name}"),
        });
        let path = if path.is_empty() { "/".into() } else { path };
        let scope = match (self.batch, self.transfer) {
            (batch, Some(transfer)) => Scope::Transfer(batch.unwrap_or(0), transfer),
            (Some(batch), None) => Scope::Batch(batch),
            (None, None) => Scope::Message,
        };
        self.verdict.push(Fault { path, code, detail, scope });
    }

    fn tell_at(&mut self, name: &'a str, code: FaultCode, detail: String) {
        self.path.push((cut(name), None));
        self.tell(code, detail);
        self.path.pop();
    }

    fn element(&mut self, element: &'a Element, part: &Part, number: Option<usize>) {
        self.path.push((&*element.name, number));
        let index = number.map_or(0, |number| number - 1);
        match part.name {
            BATCH => self.batch = Some(index),
            TRANSFER => self.transfer = Some(index),
            _ => {}
        }
        self.content(element, part.content);
        match part.name {
            BATCH => self.batch = None,
            TRANSFER => self.transfer = None,
            _ => {}
        }
        self.path.pop();
    }

    fn content(&mut self, element: &'a Element, content: Content) {
        if let Some(name) = element.foreign.first() {
            self.tell(FaultCode::AttributeUnknown, format!("attribute {}", shown(name)));
        }
        if element.currency.is_some() && !matches!(content, Content::Amount { .. } | Content::Unsupported) {
            self.tell(FaultCode::AttributeUnknown, "attribute \"Ccy\"".into());
        }
        match content {
            Content::Sequence(parts) => {
                self.no_text(element);
                self.sequence(element, parts);
            }
            Content::Choice(parts) => {
                self.no_text(element);
                self.choice(element, parts);
            }
            Content::Value(value) => {
                self.no_children(element);
                if let Err((code, detail)) = value.check(&element.text) {
                    self.tell(code, detail);
                }
            }
            Content::Amount { zero } => {
                self.no_children(element);
                self.amount(element, zero);
            }
            Content::Unsupported => {
                self.tell(FaultCode::ElementUnsupported, "this bank does not act upon it".into());
            }
        }
    }

    fn no_text(&mut self, element: &Element) {
        if element.text.chars().any(|c| !c.is_whitespace()) {
            self.tell(FaultCode::ElementContent, format!("text {}", shown(element.text.trim())));
        }
    }

    fn no_children(&mut self, element: &Element) {
        if let Some(child) = element.children.first() {
            self.tell(
                FaultCode::ElementContent,
                format!("element {} where a value is due", shown(&child.name)),
            );
        }
    }

    fn amount(&mut self, element: &Element, zero: bool) {
        let Some(currency) = &element.currency else {
            return self.tell(FaultCode::AttributeMissing, "attribute \"Ccy\"".into());
        };
        match amount(&element.text, currency) {
            Err((code, detail)) => self.tell(code, detail),
            Ok(money) if money.minor == 0 && !zero => {
                self.tell(FaultCode::AmountZero, "the amount is zero".into());
            }
            Ok(_) => {}
        }
    }

    fn sequence(&mut self, element: &'a Element, parts: &'static [Part]) {
        let mut counts = vec![0_usize; parts.len()];
        let mut reached = 0;
        for child in &element.children {
            let Some(at) = parts.iter().position(|part| *part.name == *child.name) else {
                self.tell_at(&child.name, FaultCode::ElementUnknown, "it is not in the schema here".into());
                continue;
            };
            let part = &parts[at];
            counts[at] += 1;
            if counts[at] > part.most {
                let detail = format!("it is there {} times, at most {}", counts[at], part.most);
                self.tell_at(&child.name, FaultCode::ElementRepeated, detail);
                continue;
            }
            if at < reached {
                let detail = format!("it stands after {}", parts[reached].name);
                self.tell_at(&child.name, FaultCode::ElementMisplaced, detail);
            }
            reached = reached.max(at);
            let several = part.most > 1 && !matches!(part.content, Content::Unsupported);
            self.element(child, part, several.then_some(counts[at]));
        }
        for (part, count) in parts.iter().zip(counts) {
            if count < part.least {
                self.tell_at(part.name, FaultCode::ElementMissing, "it is not there".into());
            }
        }
    }

    fn choice(&mut self, element: &'a Element, parts: &'static [Part]) {
        let names = || parts.iter().map(|part| part.name).collect::<Vec<_>>().join(", ");
        let [child] = element.children.as_slice() else {
            let code = if element.children.is_empty() {
                FaultCode::ElementMissing
            } else {
                FaultCode::ElementRepeated
            };
            return self.tell(code, format!("exactly one of {} is due", names()));
        };
        if let Some(part) = parts.iter().find(|part| *part.name == *child.name) {
            self.element(child, part, None);
        } else {
            self.tell_at(&child.name, FaultCode::ElementUnknown, format!("one of {} is due", names()));
        }
    }
}
