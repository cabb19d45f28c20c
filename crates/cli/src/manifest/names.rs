//! `dns` of an application: the names customers find it by.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use dujiang_types::dns::{AddressRange, DnsSpec};
use dujiang_types::{DcId, RegionId};

use super::fields::{At, Fields, describe, text};
use super::mistake::Mistakes;
use super::tree::{Node, Value};

/// DNS' own port, if none is named.
const PORT: u16 = 53;
/// Low, so that a lost site is soon forgotten; a resolver asks at most every ten seconds for that.
const TTL_S: u16 = 10;

/// Reads it; `None` if a mistake was noted.
pub fn read(node: &Node, mistakes: &mut Mistakes) -> Option<At<DnsSpec>> {
    const FIELDS: &[&str] = &["zone", "names", "port", "ttl_s", "weights", "regions", "resolvers"];
    let before = mistakes.count();
    let fields = Fields::of(node, "`dns`", FIELDS, mistakes)?;
    let number = |name: &str, default, example, mistakes: &mut Mistakes| match fields.optional(name) {
        None => Some(default),
        Some(_) => fields.number(name, 0..=u16::MAX, example, mistakes).map(|number| number.value),
    };
    let zone = fields.parsed::<String>("zone", "bank.example", mistakes);
    let names = fields.parsed_items::<String>("names", "[www]", mistakes);
    let port = number("port", PORT, "53", mistakes);
    let ttl_s = number("ttl_s", TTL_S, "10", mistakes);
    let mut weights = BTreeMap::new();
    for (dc, node) in entries::<DcId>(&fields, "weights", mistakes) {
        match node.value {
            Value::Int(weight) if u16::try_from(weight).is_ok() => {
                weights.insert(dc, u16::try_from(weight).unwrap_or_default());
            }
            _ => mistakes.add(
                node.at,
                format!("the weight of `{dc}` is {}", describe(&node.value)),
                "write 0 to 65535",
            ),
        }
    }
    let mut regions = BTreeMap::new();
    for (region, node) in entries::<RegionId>(&fields, "regions", mistakes) {
        regions.insert(region, ranges(node, mistakes));
    }
    let resolvers = fields.optional("resolvers").map(|node| ranges(node, mistakes)).unwrap_or_default();
    if mistakes.count() > before {
        return None;
    }
    let names = names.into_iter().map(|name| name.value).collect();
    let spec = DnsSpec { zone: zone?.value, names, port: port?, ttl_s: ttl_s?, weights, regions, resolvers };
    for mistake in spec.mistakes() {
        mistakes.add(node.at, format!("`dns`: {mistake}"), "see examples/two-regions.yaml");
    }
    Some(At { at: node.at, value: spec })
}

fn entries<'a, K>(fields: &Fields<'a>, name: &str, mistakes: &mut Mistakes) -> Vec<(K, &'a Node)>
where
    K: FromStr,
    K::Err: Display,
{
    let Some(node) = fields.optional(name) else { return Vec::new() };
    let Value::Map(map) = &node.value else {
        mistakes.add(node.at, format!("`{name}` is {}", describe(&node.value)), "write a mapping");
        return Vec::new();
    };
    let mut entries = Vec::new();
    for (key, value) in map {
        match key.text.parse::<K>() {
            Ok(parsed) => entries.push((parsed, value)),
            Err(error) => mistakes.add(key.at, format!("`{name}`: {error}"), "write a name"),
        }
    }
    entries
}

fn ranges(node: &Node, mistakes: &mut Mistakes) -> BTreeSet<AddressRange> {
    let Value::List(list) = &node.value else {
        mistakes.add(
            node.at,
            format!("ranges of addresses are {}", describe(&node.value)),
            "write [10.1.0.0/16]",
        );
        return BTreeSet::new();
    };
    let mut ranges = BTreeSet::new();
    for node in list {
        match text(node).unwrap_or_default().parse::<AddressRange>() {
            Ok(range) => drop(ranges.insert(range)),
            Err(wrong) => mistakes.add(node.at, wrong, "write [10.1.0.0/16]"),
        }
    }
    ranges
}
