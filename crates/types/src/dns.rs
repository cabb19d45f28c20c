//! The names customers find the bank by, and where they lead.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::{DcId, RegionId, Revision};

/// IPv4 addresses somebody may ask from, such as `10.1.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange {
    base: Ipv4Addr,
    prefix: u8,
}

impl AddressRange {
    /// True if the address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address.to_canonical() else { return false };
        (u32::from(address) ^ u32::from(self.base)).checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
    }

    /// Length of its prefix: the longer, the fewer addresses.
    pub fn prefix(self) -> u8 {
        self.prefix
    }
}

impl FromStr for AddressRange {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let wrong = || format!("{s:?} is not a range of addresses: write address/prefix such as 10.1.0.0/16");
        let (base, prefix) = s.split_once('/').ok_or_else(wrong)?;
        let base: Ipv4Addr = base.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        let rest = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        if prefix > 32 || u32::from(base) & rest != 0 {
            return Err(wrong());
        }
        Ok(Self { base, prefix })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl TryFrom<String> for AddressRange {
    type Error = String;
    fn try_from(value: String) -> Result<Self, String> {
        value.parse()
    }
}

impl From<AddressRange> for String {
    fn from(range: AddressRange) -> String {
        range.to_string()
    }
}

impl PartialSchema for AddressRange {
    fn schema() -> RefOr<Schema> {
        String::schema()
    }
}

impl ToSchema for AddressRange {}

/// What is wanted of the names of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DnsSpec {
    /// The zone the sites answer for, without a dot at the end: `bank.example`.
    pub zone: String,
    /// Names in it that lead to the gateways, one label each: `www`; `@` is the zone itself.
    pub names: BTreeSet<String>,
    /// Port the sites answer on, by UDP and TCP.
    pub port: u16,
    /// For how many seconds an answer may be kept: about as long a lost site is still asked for.
    pub ttl_s: u16,
    /// How often a site is given beside the others of its region; 1 if it is not named, 0 is never.
    #[serde(default)]
    pub weights: BTreeMap<DcId, u16>,
    /// Where the customers of each region ask from. Of ranges that overlap the longest prefix counts.
    #[serde(default)]
    pub regions: BTreeMap<RegionId, BTreeSet<AddressRange>>,
    /// Resolvers that are believed whose customers they ask for (EDNS client subnet).
    #[serde(default)]
    pub resolvers: BTreeSet<AddressRange>,
}

/// Longest time an answer may be kept: longer, and a lost site is asked for too long.
const TTL_S_MAX: u16 = 300;
/// Longest zone, so that every name in it still fits.
const ZONE_LEN_MAX: usize = 180;

impl DnsSpec {
    /// What cannot be served, each in one sentence.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut require = |right: bool, wrong: String| {
            if !right {
                mistakes.push(wrong);
            }
        };
        let zone_ok = self.zone.len() <= ZONE_LEN_MAX && self.zone.split('.').all(is_label);
        require(zone_ok, format!("zone: {:?} is not a name such as bank.example", self.zone));
        require(!self.names.is_empty(), "names: there are none".to_owned());
        for name in &self.names {
            let server = name.starts_with("ns-");
            require(
                name == "@" || is_label(name),
                format!("names: {name:?} is not one label in lower case, or @"),
            );
            require(!server, format!("names: {name:?}: names from ns- on are those of the sites"));
        }
        require(
            (1..=TTL_S_MAX).contains(&self.ttl_s),
            format!("ttl_s: {} is not between 1 and {TTL_S_MAX}", self.ttl_s),
        );
        require(self.port > 0, "port: 0 is none".to_owned());
        mistakes
    }
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Everything a site needs to answer: part of the routing table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Directory {
    /// What is wanted.
    pub spec: DnsSpec,
    /// Every site.
    pub sites: BTreeMap<DcId, Site>,
    /// Revision of the latest change of this: the zone's serial number.
    pub serial: Revision,
}

/// One site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Site {
    /// The region it lies in.
    pub region: RegionId,
    /// Where customers and resolvers reach it.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// Where the other sites ask how it is.
    #[schema(value_type = String)]
    pub health: SocketAddr,
    /// True if nobody new shall be sent there.
    pub drained: bool,
}

impl Directory {
    /// The region an address asks from.
    pub fn region_of(&self, address: IpAddr) -> Option<&RegionId> {
        let ranges =
            self.spec.regions.iter().flat_map(|(region, ranges)| ranges.iter().map(move |r| (region, *r)));
        let near = ranges.filter(|(_, range)| range.contains(address));
        near.max_by_key(|(_, range)| range.prefix()).map(|(region, _)| region)
    }

    /// True if that address is believed whom it asks for.
    pub fn trusts(&self, resolver: IpAddr) -> bool {
        self.spec.resolvers.iter().any(|range| range.contains(resolver))
    }

    /// Sites that may be given to somebody of that region: those that are there, not drained and of some weight, and
    /// of these the near ones if there are any. If nothing but lost sites is left, they are given rather than nobody:
    /// then it is more likely that the one who asks cannot see them.
    pub fn candidates(&self, region: Option<&RegionId>, lost: &BTreeSet<DcId>) -> Vec<(&DcId, &Site, u16)> {
        let weight = |dc: &DcId| self.spec.weights.get(dc).copied().unwrap_or(1);
        let wanted: Vec<_> = self
            .sites
            .iter()
            .map(|(dc, site)| (dc, site, weight(dc)))
            .filter(|(_, site, weight)| !site.drained && *weight > 0)
            .collect();
        let there: Vec<_> = wanted.iter().filter(|(dc, ..)| !lost.contains(*dc)).copied().collect();
        let there = if there.is_empty() { wanted } else { there };
        let near: Vec<_> =
            there.iter().filter(|(_, site, _)| Some(&site.region) == region).copied().collect();
        if near.is_empty() { there } else { near }
    }

    /// One of the candidates, each as often as its weight says over all values of `draw`.
    pub fn pick(
        &self,
        region: Option<&RegionId>,
        lost: &BTreeSet<DcId>,
        draw: u64,
    ) -> Option<(&DcId, &Site)> {
        let candidates = self.candidates(region, lost);
        let total: u64 = candidates.iter().map(|(_, _, weight)| u64::from(*weight)).sum();
        let mut left = draw % total.max(1);
        for (dc, site, weight) in candidates {
            match left.checked_sub(u64::from(weight)) {
                Some(rest) => left = rest,
                None => return Some((dc, site)),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dc(name: &str) -> DcId {
        DcId::new(name).unwrap()
    }

    fn region(name: &str) -> RegionId {
        RegionId::new(name).unwrap()
    }

    fn directory() -> Directory {
        let site = |name: &str, region_name: &str, number: u8| {
            let address = IpAddr::from([10, 0, number, 1]);
            let site = Site {
                region: region(region_name),
                address,
                health: SocketAddr::new(address, 7201),
                drained: false,
            };
            (dc(name), site)
        };
        let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Directory {
            spec: DnsSpec {
                zone: "bank.example".to_owned(),
                names: BTreeSet::from(["www".to_owned()]),
                port: 53,
                ttl_s: 10,
                weights: BTreeMap::from([(dc("a"), 3)]),
                regions: BTreeMap::from([
                    (region("north"), ranges(&["192.0.2.0/24"])),
                    (region("south"), ranges(&["192.0.0.0/16", "198.51.100.7/32"])),
                ]),
                resolvers: ranges(&["203.0.113.0/28"]),
            },
            sites: BTreeMap::from([site("a", "north", 1), site("b", "north", 2), site("c", "south", 3)]),
            serial: Revision(7),
        }
    }

    #[test]
    fn what_cannot_be_served_is_said() {
        assert_eq!(directory().spec.mistakes(), Vec::<String>::new());
        let wrong = |change: &dyn Fn(&mut DnsSpec)| {
            let mut spec = directory().spec;
            change(&mut spec);
            spec.mistakes().len()
        };
        assert_eq!(wrong(&|spec| spec.zone = "Bank.example".to_owned()), 1);
        assert_eq!(wrong(&|spec| spec.zone = "bank.example.".to_owned()), 1);
        assert_eq!(wrong(&|spec| spec.zone.clear()), 1);
        assert_eq!(wrong(&|spec| spec.names.clear()), 1);
        assert_eq!(wrong(&|spec| spec.names = BTreeSet::from(["ns-a".to_owned(), "a.b".to_owned()])), 2);
        assert_eq!(wrong(&|spec| spec.names = BTreeSet::from(["@".to_owned()])), 0);
        assert_eq!(wrong(&|spec| (spec.ttl_s, spec.port) = (0, 0)), 2);
    }

    #[test]
    fn ranges_contain_what_they_say() {
        for (range, address, inside) in [
            ("10.1.0.0/16", "10.1.255.255", true),
            ("10.1.0.0/16", "10.2.0.0", false),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.2", false),
            ("0.0.0.0/0", "255.1.2.3", true),
            ("10.1.0.0/16", "::ffff:10.1.2.3", true),
            ("0.0.0.0/0", "2001:db8::1", false),
        ] {
            let range: AddressRange = range.parse().unwrap();
            assert_eq!(range.contains(address.parse().unwrap()), inside, "{address} in {range}");
        }
        for bad in ["10.1.0.0", "10.1.0.1/16", "10.0.0.0/33", "x/8", "10.0.0.0/-1"] {
            assert!(bad.parse::<AddressRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_longest_prefix_says_where_somebody_asks_from() {
        let directory = directory();
        let of = |address: &str| directory.region_of(address.parse().unwrap()).map(RegionId::as_str);
        assert_eq!(of("192.0.2.9"), Some("north"));
        assert_eq!(of("192.0.3.9"), Some("south"));
        assert_eq!(of("198.51.100.8"), None);
        assert!(directory.trusts("203.0.113.15".parse().unwrap()));
        assert!(!directory.trusts("203.0.113.16".parse().unwrap()));
    }

    #[test]
    fn sites_are_given_by_health_region_and_drain() {
        type Case<'a> = (&'a str, Option<&'a str>, &'a [&'a str], &'a [&'a str], &'a str);
        let cases: &[Case] = &[
            ("near ones", Some("north"), &[], &[], "a b"),
            ("near ones of the other region", Some("south"), &[], &[], "c"),
            ("from anywhere all", None, &[], &[], "a b c"),
            ("a lost one is left out", Some("north"), &["a"], &[], "b"),
            ("a drained one too", Some("north"), &[], &["b"], "a"),
            ("a region that is gone is served by the other", Some("north"), &["a", "b"], &[], "c"),
            ("drained and lost together", Some("north"), &["a"], &["b"], "c"),
            ("all lost: who knows", Some("north"), &["a", "b", "c"], &[], "a b"),
            ("all lost, but never a drained one", Some("south"), &["a", "b", "c"], &["c"], "a b"),
        ];
        for (what, from, lost, drained, expected) in cases {
            let mut directory = directory();
            for name in *drained {
                directory.sites.get_mut(&dc(name)).unwrap().drained = true;
            }
            let lost = lost.iter().map(|name| dc(name)).collect();
            let from = from.map(region);
            let given = directory.candidates(from.as_ref(), &lost);
            let given: Vec<&str> = given.iter().map(|(dc, ..)| dc.as_str()).collect();
            assert_eq!(given.join(" "), *expected, "{what}");
        }
    }

    #[test]
    fn each_is_given_as_often_as_its_weight_says() {
        let mut directory = directory();
        let north = region("north");
        let count = |directory: &Directory, name: &str| {
            let given = (0..400).filter_map(|draw| directory.pick(Some(&north), &BTreeSet::new(), draw));
            given.filter(|(dc, _)| dc.as_str() == name).count()
        };
        assert_eq!((count(&directory, "a"), count(&directory, "b")), (300, 100));
        directory.spec.weights.insert(dc("a"), 0);
        assert_eq!((count(&directory, "a"), count(&directory, "b")), (0, 400));
        directory.sites.clear();
        assert_eq!(directory.pick(None, &BTreeSet::new(), 1), None);
    }
}
