//! From a question to its answer: pure.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

use dujiang_types::DcId;
use dujiang_types::dns::Directory;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption, NSIDPayload};
use hickory_proto::rr::rdata::{A, NS, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// Bytes of a header: less is no question.
const HEADER_BYTES: usize = 12;
/// What an answer over UDP takes at most, whatever the other side says: fits every path without fragments.
pub(super) const UDP_BYTES_MAX: u16 = 1232;
/// What it takes if the other side does not speak EDNS.
pub(super) const UDP_BYTES_PLAIN: u16 = 512;
/// Bounds of the SOA for secondaries, of which there are none: transfers are refused.
const REFRESH_S: i32 = 3_600;
const RETRY_S: i32 = 600;
const EXPIRE_S: i32 = 86_400;

/// What an answer is made from beside the question.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) directory: &'a Directory,
    /// Sites that do not answer.
    pub(super) lost: &'a BTreeSet<DcId>,
    /// This site.
    pub(super) here: &'a DcId,
    /// Who asks.
    pub(super) asker: IpAddr,
    /// Chooses among sites of the same worth.
    pub(super) draw: u64,
}

/// The answer, and how many bytes it may have over UDP. `None` if nothing is answered: to a message that is no question
/// there is no answer, or two servers could answer each other for ever.
pub(super) fn answer(bytes: &[u8], scene: &Scene) -> Option<(Message, u16)> {
    let id = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
    if bytes.len() < HEADER_BYTES || bytes[2] & 0x80 != 0 {
        return None;
    }
    let Ok(request) = Message::from_vec(bytes) else {
        return Some((Message::error_msg(id, OpCode::Query, ResponseCode::FormErr), UDP_BYTES_PLAIN));
    };
    let mut response = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.queries.clone_from(&request.queries);
    let mut bytes_max = UDP_BYTES_PLAIN;
    let mut subnet = None;
    if let Some(edns) = &request.edns {
        bytes_max = edns.max_payload().clamp(UDP_BYTES_PLAIN, UDP_BYTES_MAX);
        subnet = trusted_subnet(edns, scene);
        response.edns = Some(reply_edns(edns, subnet, scene.here));
        if edns.version() > 0 {
            response.metadata.response_code = ResponseCode::BADVERS;
            return Some((response, bytes_max));
        }
    }
    response.metadata.response_code = match &request.queries[..] {
        _ if request.metadata.op_code != OpCode::Query => ResponseCode::NotImp,
        [query] => fill(&mut response, query, subnet.map(|subnet| subnet.addr()), scene),
        _ => ResponseCode::FormErr,
    };
    Some((response, bytes_max))
}

/// Whom the question is asked for, if the one who asks is believed that.
fn trusted_subnet(edns: &Edns, scene: &Scene) -> Option<ClientSubnet> {
    match edns.option(EdnsCode::Subnet) {
        Some(EdnsOption::Subnet(subnet)) if scene.directory.trusts(scene.asker) => Some(*subnet),
        _ => None,
    }
}

fn reply_edns(asked: &Edns, subnet: Option<ClientSubnet>, here: &DcId) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_BYTES_MAX).set_version(0);
    if asked.option(EdnsCode::NSID).is_some()
        && let Ok(payload) = NSIDPayload::new(here.as_str().as_bytes())
    {
        edns.options_mut().insert(EdnsOption::NSID(payload));
    }
    if let Some(mut subnet) = subnet {
        // The answer holds for exactly whom it was asked for.
        subnet.set_scope_prefix(subnet.source_prefix());
        edns.options_mut().insert(EdnsOption::Subnet(subnet));
    }
    edns
}

/// What stands at a name.
enum There {
    /// The top of the zone.
    Apex {
        site: bool,
    },
    /// A name that leads to a site.
    Customers,
    /// A site's own name as a server of the zone.
    Server(IpAddr),
    Nothing,
}

fn fill(response: &mut Message, query: &Query, subnet: Option<IpAddr>, scene: &Scene) -> ResponseCode {
    let spec = &scene.directory.spec;
    let Ok(zone) = absolute(&spec.zone) else { return ResponseCode::ServFail };
    let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
    let ours = zone.zone_of(query.name()) && matches!(query.query_class(), DNSClass::IN | DNSClass::ANY);
    if transfer || !ours {
        return ResponseCode::Refused;
    }
    response.metadata.authoritative = true;
    let there = at(query.name(), &zone, scene);
    let ttl_s = u32::from(spec.ttl_s);
    let name = query.name().clone();
    let wants = |kind| query.query_type() == kind || query.query_type() == RecordType::ANY;
    let mut add = |data| {
        response.answers.push(Record::from_rdata(name.clone(), ttl_s, data));
    };
    let leads = matches!(there, There::Customers | There::Apex { site: true });
    if leads && wants(RecordType::A) {
        let from = scene.directory.region_of(subnet.unwrap_or(scene.asker));
        if let Some((_, site)) = scene.directory.pick(from, scene.lost, scene.draw)
            && let IpAddr::V4(address) = site.address
        {
            add(RData::A(A(address)));
        }
    }
    if let There::Server(IpAddr::V4(address)) = there
        && wants(RecordType::A)
    {
        add(RData::A(A(address)));
    }
    if matches!(there, There::Apex { .. }) {
        if wants(RecordType::NS) {
            for name in scene.directory.sites.keys().filter_map(|dc| server_name(dc, &zone)) {
                add(RData::NS(NS(name)));
            }
        }
        if wants(RecordType::SOA)
            && let Some(soa) = soa(&zone, scene)
        {
            add(RData::SOA(soa));
        }
    }
    if response.answers.is_empty()
        && let Some(soa) = soa(&zone, scene)
    {
        response.authorities.push(Record::from_rdata(zone, ttl_s, RData::SOA(soa)));
    }
    if matches!(there, There::Nothing) { ResponseCode::NXDomain } else { ResponseCode::NoError }
}

fn at(name: &Name, zone: &Name, scene: &Scene) -> There {
    let spec = &scene.directory.spec;
    if name == zone {
        return There::Apex { site: spec.names.contains("@") };
    }
    let child = |label: &str| Name::from_str(label).and_then(|label| label.append_domain(zone));
    if spec.names.iter().any(|label| child(label).is_ok_and(|child| child == *name)) {
        return There::Customers;
    }
    let mut servers = scene.directory.sites.iter();
    match servers.find(|(dc, _)| server_name(dc, zone).as_ref() == Some(name)) {
        Some((_, site)) => There::Server(site.address),
        None => There::Nothing,
    }
}

fn absolute(zone: &str) -> Result<Name, hickory_proto::ProtoError> {
    let mut name = Name::from_str(zone)?;
    name.set_fqdn(true);
    Ok(name)
}

/// The name of a site as a server of the zone.
fn server_name(dc: &DcId, zone: &Name) -> Option<Name> {
    Name::from_str(&format!("ns-{dc}")).and_then(|name| name.append_domain(zone)).ok()
}

fn soa(zone: &Name, scene: &Scene) -> Option<SOA> {
    let server = server_name(scene.here, zone)?;
    let person = Name::from_str("hostmaster").and_then(|name| name.append_domain(zone)).ok()?;
    // Serial numbers are compared within 32 bits; the low half of ever rising revisions rises within any hour.
    let serial = u32::try_from(scene.directory.serial.0 & u64::from(u32::MAX)).unwrap_or_default();
    let negative_s = u32::from(scene.directory.spec.ttl_s);
    Some(SOA::new(server, person, serial, REFRESH_S, RETRY_S, EXPIRE_S, negative_s))
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
