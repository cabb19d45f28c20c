use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use dujiang_types::dns::{DnsSpec, Site};
use dujiang_types::{RegionId, Revision};
use proptest::prelude::*;

use super::*;

fn dc(name: &str) -> DcId {
    DcId::new(name).unwrap()
}

fn directory() -> Directory {
    let site = |name: &str, region: &str, number: u8| {
        let address = IpAddr::from([10, 0, number, 1]);
        let region = RegionId::new(region).unwrap();
        (dc(name), Site { region, address, health: SocketAddr::new(address, 7201), drained: false })
    };
    let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Directory {
        spec: DnsSpec {
            zone: "bank.example".to_owned(),
            names: BTreeSet::from(["www".to_owned()]),
            port: 53,
            ttl_s: 10,
            weights: BTreeMap::new(),
            regions: BTreeMap::from([
                (RegionId::new("north").unwrap(), ranges(&["192.0.2.0/24"])),
                (RegionId::new("south").unwrap(), ranges(&["198.51.100.0/24"])),
            ]),
            resolvers: ranges(&["203.0.113.53/32"]),
        },
        sites: BTreeMap::from([site("a", "north", 1), site("c", "south", 3)]),
        serial: Revision(7),
    }
}

fn ask_from(asker: &str, bytes: &[u8]) -> Option<(Message, u16)> {
    let (directory, here) = (directory(), dc("a"));
    let scene = Scene {
        directory: &directory,
        lost: &BTreeSet::new(),
        here: &here,
        asker: asker.parse().unwrap(),
        draw: 0,
    };
    answer(bytes, &scene)
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
    message
}

fn ask(message: &Message) -> Message {
    ask_from("192.0.2.1", &message.to_vec().unwrap()).unwrap().0
}

fn shown(message: &Message) -> String {
    let records = |records: &[Record]| {
        records.iter().map(|r| format!("{} {}", r.record_type(), r.data)).collect::<Vec<_>>().join(", ")
    };
    let code = message.metadata.response_code;
    format!("{code:?} [{}] [{}]", records(&message.answers), records(&message.authorities))
}

#[test]
fn every_question_has_its_answer() {
    let soa = "SOA ns-a.bank.example. hostmaster.bank.example. 7 3600 600 86400 10";
    let ns = "NS ns-a.bank.example., NS ns-c.bank.example.";
    #[rustfmt::skip]
    let cases: &[(&str, RecordType, String)] = &[
        ("www.bank.example.", RecordType::A, "NoError [A 10.0.1.1] []".to_owned()),
        ("WwW.bAnK.eXaMpLe.", RecordType::A, "NoError [A 10.0.1.1] []".to_owned()),
        ("www.bank.example.", RecordType::ANY, "NoError [A 10.0.1.1] []".to_owned()),
        ("www.bank.example.", RecordType::AAAA, format!("NoError [] [{soa}]")),
        ("nothing.bank.example.", RecordType::A, format!("NXDomain [] [{soa}]")),
        ("a.www.bank.example.", RecordType::A, format!("NXDomain [] [{soa}]")),
        ("bank.example.", RecordType::A, format!("NoError [] [{soa}]")),
        ("bank.example.", RecordType::SOA, format!("NoError [{soa}] []")),
        ("bank.example.", RecordType::NS, format!("NoError [{ns}] []")),
        ("ns-c.bank.example.", RecordType::A, "NoError [A 10.0.3.1] []".to_owned()),
        ("example.", RecordType::A, "Refused [] []".to_owned()),
        ("bank.example.org.", RecordType::A, "Refused [] []".to_owned()),
        ("notbank.example.", RecordType::A, "Refused [] []".to_owned()),
        (".", RecordType::NS, "Refused [] []".to_owned()),
        ("bank.example.", RecordType::AXFR, "Refused [] []".to_owned()),
        ("bank.example.", RecordType::IXFR, "Refused [] []".to_owned()),
    ];
    for (name, kind, expected) in cases {
        let response = ask(&question(name, *kind));
        assert_eq!(shown(&response), *expected, "{name} {kind}");
        assert_eq!(response.metadata.id, 77);
        assert_eq!(response.metadata.authoritative, !expected.starts_with("Refused"), "{name} {kind}");
        assert!(!response.metadata.recursion_available);
        assert_eq!(response.queries[0].name().to_string(), Name::from_str(name).unwrap().to_string());
    }
    let mut chaos = question("www.bank.example.", RecordType::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(shown(&ask(&chaos)), "Refused [] []");
}

#[test]
fn what_is_no_question_is_not_answered_and_what_is_no_good_one_is_refused() {
    let good = question("www.bank.example.", RecordType::A);
    let bytes = good.to_vec().unwrap();
    for length in 0..HEADER_BYTES {
        assert!(ask_from("192.0.2.1", &bytes[..length]).is_none());
    }
    for length in HEADER_BYTES..bytes.len() {
        let (response, _) = ask_from("192.0.2.1", &bytes[..length]).unwrap();
        assert_eq!(response.metadata.response_code, ResponseCode::FormErr, "cut off at {length}");
    }
    let mut answer = good.clone();
    answer.metadata.message_type = MessageType::Response;
    assert!(ask_from("192.0.2.1", &answer.to_vec().unwrap()).is_none());
    let mut update = good.clone();
    update.metadata.op_code = OpCode::Update;
    assert_ne!(ask(&update).metadata.response_code, ResponseCode::NoError);
    let mut two = good;
    two.add_query(Query::query(Name::from_str("bank.example.").unwrap(), RecordType::NS));
    assert_eq!(ask(&two).metadata.response_code, ResponseCode::FormErr);
}

fn with_edns(version: u8, options: Vec<EdnsOption>) -> Message {
    let mut message = question("www.bank.example.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4_096).set_version(version);
    for option in options {
        edns.options_mut().insert(option);
    }
    message.set_edns(edns);
    message
}

#[test]
fn edns_is_spoken_and_the_site_names_itself() {
    assert!(ask(&question("www.bank.example.", RecordType::A)).edns.is_none(), "only if asked");
    let nsid = EdnsOption::NSID(NSIDPayload::new(Vec::new()).unwrap());
    let bytes = with_edns(0, vec![nsid]).to_vec().unwrap();
    let (response, bytes_max) = ask_from("192.0.2.1", &bytes).unwrap();
    assert_eq!(bytes_max, UDP_BYTES_MAX);
    let edns = response.edns.as_ref().unwrap();
    let Some(EdnsOption::NSID(payload)) = edns.option(EdnsCode::NSID) else { panic!("{edns:?}") };
    assert_eq!(payload.as_ref(), b"a");
    // It survives being written and read.
    let read = Message::from_vec(&response.to_vec().unwrap()).unwrap();
    assert_eq!(shown(&read), "NoError [A 10.0.1.1] []");
    let newer = ask(&with_edns(1, Vec::new()));
    assert_eq!(newer.metadata.response_code, ResponseCode::BADVERS);
    assert!(newer.answers.is_empty());
}

#[test]
fn only_trusted_resolvers_are_believed_whom_they_ask_for() {
    let for_south = EdnsOption::Subnet(ClientSubnet::new("198.51.100.0".parse().unwrap(), 24, 0));
    let bytes = with_edns(0, vec![for_south]).to_vec().unwrap();
    for (asker, expected, scope) in [
        ("203.0.113.53", "NoError [A 10.0.3.1] []", Some(24)),
        ("192.0.2.1", "NoError [A 10.0.1.1] []", None),
    ] {
        let (response, _) = ask_from(asker, &bytes).unwrap();
        assert_eq!(shown(&response), expected, "{asker}");
        let scoped = match response.edns.unwrap().option(EdnsCode::Subnet) {
            Some(EdnsOption::Subnet(subnet)) => Some(subnet.scope_prefix()),
            _ => None,
        };
        assert_eq!(scoped, scope, "{asker}");
    }
}

proptest! {
    /// Whatever arrives, nothing breaks, and every answer can be written.
    #[test]
    fn garbage_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Some((response, _)) = ask_from("192.0.2.1", &bytes) {
            prop_assert!(response.to_vec().is_ok());
        }
    }

    #[test]
    fn damaged_questions_are_survived(at in 0_usize..60, with in any::<u8>(), cut in 0_usize..80) {
        let nsid = EdnsOption::NSID(NSIDPayload::new(Vec::new()).unwrap());
        let mut bytes = with_edns(0, vec![nsid]).to_vec().unwrap();
        let at = at % bytes.len();
        bytes[at] = with;
        bytes.truncate(bytes.len().saturating_sub(cut));
        if let Some((response, _)) = ask_from("192.0.2.1", &bytes) {
            prop_assert!(response.to_vec().is_ok());
        }
    }
}
