//! Which unit a request belongs to and where it goes: the routing table compiled for one data center.
//!
//! Compiling costs once per table; a decision then is a walk over a few prefixes, one hash and one array access.

use std::borrow::Cow;
use std::net::SocketAddr;

use dujiang_types::ids::SLOT_COUNT;
use dujiang_types::platform::{KeySource, RouteRule};
use dujiang_types::{AppId, Code, DcId, Epoch, Revision, Slot, UnitId};

use crate::{Mode, RoutingTable, slot_of_key};

/// Stands for "no unit owns this slot". More units than slots cannot exist, so the number is free.
const UNOWNED: u16 = u16::MAX;

/// A routing table as one data center sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// Version of the table.
    pub version: Revision,
    /// Units, in the table's order.
    pub units: Vec<CompiledUnit>,
    /// Applications, by name.
    pub applications: Vec<CompiledApplication>,
}

/// A unit as one data center sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledUnit {
    /// The unit.
    pub unit: UnitId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Index of its application in [`Compiled::applications`].
    pub application: usize,
    /// Where its requests go.
    pub place: Place,
}

/// Where a unit's requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// To an instance in this data center.
    Here,
    /// To the gateway of the data center the unit is at home in.
    Mesh {
        /// The home.
        home: DcId,
        /// Its gateway's address for other gateways.
        address: SocketAddr,
    },
    /// Nowhere until the table changes: the unit is moving, or nobody knows the way to its home.
    Hold,
}

/// An application as one data center sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledApplication {
    /// Its name.
    pub id: AppId,
    /// Its instances in this data center.
    pub instances: Vec<SocketAddr>,
    routes: Vec<RouteRule>,
    /// Index into [`Compiled::units`] by slot.
    slots: Box<[u16]>,
}

/// Whom a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The unit with this index in [`Compiled::units`].
    Unit(usize),
    /// Any instance in this data center of the application with this index.
    Application(usize),
}

/// Why a request goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The code to answer with.
    pub code: Code,
    /// What was wrong and what would be right.
    pub detail: &'static str,
}

/// What a request's headers say about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderText<'a> {
    /// There is no such header.
    Absent,
    /// It stands there once.
    One(&'a [u8]),
    /// It stands there more than once; which one counts would be anybody's guess.
    Many,
}

impl Compiled {
    /// Compiles the table for a data center. Where two units claim a slot the first one has it.
    pub fn new(table: &RoutingTable, dc: &DcId) -> Self {
        let mut units = Vec::with_capacity(table.units.len());
        let mut applications: Vec<_> = table
            .applications
            .iter()
            .map(|(id, route)| CompiledApplication {
                id: id.clone(),
                instances: route.instances.get(dc).cloned().unwrap_or_default(),
                routes: route.routes.clone(),
                slots: vec![UNOWNED; usize::from(SLOT_COUNT)].into_boxed_slice(),
            })
            .collect();
        for route in &table.units {
            let Some(application) = applications.iter().position(|app| app.id == route.application) else {
                continue; // nothing could serve it, and no rule leads to it
            };
            let Ok(index) = u16::try_from(units.len()) else { break };
            if index == UNOWNED {
                break; // more units than slots: the rest cannot own any
            }
            let place = match route.mode {
                Mode::Hold => Place::Hold,
                Mode::Forward if route.home == *dc => Place::Here,
                Mode::Forward => match table.mesh.get(&route.home) {
                    Some(address) => Place::Mesh { home: route.home.clone(), address: *address },
                    None => Place::Hold,
                },
            };
            for range in &route.slots {
                let (first, last) = (usize::from(range.first.get()), usize::from(range.last.get()));
                for owner in &mut applications[application].slots[first..=last] {
                    if *owner == UNOWNED {
                        *owner = index;
                    }
                }
            }
            units.push(CompiledUnit { unit: route.unit.clone(), epoch: route.epoch, application, place });
        }
        Self { version: table.version, units, applications }
    }

    /// Whom a request is for, by its path (with or without a query) and its headers.
    ///
    /// In each application the first rule whose prefix fits is taken; among applications the longest prefix.
    pub fn target<'h>(
        &self,
        path: &str,
        header: impl FnOnce(&str) -> HeaderText<'h>,
    ) -> Result<Target, Refusal> {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        if has_dot_segment(path) {
            return Err(Refusal {
                code: Code::RequestInvalid,
                detail: "The path has a segment \".\" or \"..\": send it resolved.",
            });
        }
        let (application, rule) = self.rule(path).ok_or(Refusal {
            code: Code::RouteUnknown,
            detail: "No application of this platform serves this path.",
        })?;
        let (form, key) = match &rule.key {
            KeySource::None => return Ok(Target::Application(application)),
            KeySource::Segment { form } => (*form, segment_key(&path[rule.prefix.len()..])?),
            KeySource::Header { name, form } => (*form, header_key(header(name))?),
        };
        let slot = slot_of_key(form, &key).map_err(|_| Refusal {
            code: Code::AccountNumberInvalid,
            detail: "An account number has 18 digits, the last being its check digit. Was it mistyped?",
        })?;
        self.unit_of(application, slot).map(Target::Unit)
    }

    /// The first fitting rule of each application, and of those the one with the longest prefix.
    fn rule(&self, path: &str) -> Option<(usize, &RouteRule)> {
        let mut best: Option<(usize, &RouteRule)> = None;
        for (index, application) in self.applications.iter().enumerate() {
            let Some(rule) = application.routes.iter().find(|rule| path.starts_with(&rule.prefix)) else {
                continue;
            };
            if best.is_none_or(|(_, other)| rule.prefix.len() > other.prefix.len()) {
                best = Some((index, rule));
            }
        }
        best
    }

    /// The unit of an application that owns the slot.
    fn unit_of(&self, application: usize, slot: Slot) -> Result<usize, Refusal> {
        match self.applications[application].slots[usize::from(slot.get())] {
            UNOWNED => Err(Refusal {
                code: Code::SlotUnowned,
                detail: "No unit owns the slot of this customer at the moment.",
            }),
            unit => Ok(usize::from(unit)),
        }
    }
}

/// True if a segment is `.` or `..`, also percent-encoded: gateway and application could resolve it differently.
fn has_dot_segment(path: &str) -> bool {
    let dots = |segment: &str| {
        let mut rest = segment.as_bytes();
        let mut count = 0;
        while !rest.is_empty() {
            rest = match rest {
                [b'.', tail @ ..] | [b'%', b'2', b'e' | b'E', tail @ ..] => tail,
                _ => return false,
            };
            count += 1;
        }
        count == 1 || count == 2
    };
    // Only a path with "/." or "/%" can have one; most have neither.
    path.as_bytes().windows(2).any(|pair| pair[0] == b'/' && (pair[1] == b'.' || pair[1] == b'%'))
        && path.split('/').any(dots)
}

const KEY_MISSING: Refusal = Refusal {
    code: Code::RoutingKeyMissing,
    detail: "The customer or account to route by is missing or empty.",
};

fn segment_key(rest: &str) -> Result<Cow<'_, str>, Refusal> {
    let segment = rest.split('/').next().unwrap_or_default();
    if segment.is_empty() {
        return Err(KEY_MISSING);
    }
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    percent_decoded(segment).map(Cow::Owned).ok_or(Refusal {
        code: Code::RequestInvalid,
        detail: "The path segment to route by is not valid percent-encoded UTF-8.",
    })
}

fn header_key(text: HeaderText<'_>) -> Result<Cow<'_, str>, Refusal> {
    match text {
        HeaderText::Absent | HeaderText::One(b"") => Err(KEY_MISSING),
        HeaderText::One(value) => std::str::from_utf8(value).map(Cow::Borrowed).map_err(|_| Refusal {
            code: Code::RequestInvalid,
            detail: "The header to route by is not UTF-8.",
        }),
        HeaderText::Many => Err(Refusal {
            code: Code::RequestInvalid,
            detail: "The header to route by stands more than once.",
        }),
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let digit = |at: usize| tail.get(at).and_then(|b| char::from(*b).to_digit(16));
        bytes.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
