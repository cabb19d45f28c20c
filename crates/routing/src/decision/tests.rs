use std::collections::BTreeMap;

use dujiang_types::SlotRange;
use dujiang_types::platform::KeyForm;
use proptest::prelude::*;

use super::*;
use crate::table::ApplicationRoute;
use crate::{AccountNumber, UnitRoute, slot_of};

fn dc(name: &str) -> DcId {
    DcId::new(name).unwrap()
}

fn rule(prefix: &str, key: KeySource) -> RouteRule {
    RouteRule { prefix: prefix.to_owned(), key }
}

fn unit(name: &str, home: &str, mode: Mode, slots: &str) -> UnitRoute {
    UnitRoute {
        unit: UnitId::new(name).unwrap(),
        application: AppId::new("bank").unwrap(),
        epoch: Epoch(7),
        home: dc(home),
        mode,
        slots: vec![slots.parse().unwrap()],
    }
}

fn table() -> RoutingTable {
    let routes = vec![
        rule("/v1/accounts/", KeySource::Segment { form: KeyForm::Account }),
        rule("/v1/customers/", KeySource::Segment { form: KeyForm::Hash }),
        rule("/v1/", KeySource::Header { name: "x-customer".to_owned(), form: KeyForm::Hash }),
        rule("/", KeySource::None),
    ];
    let instances = BTreeMap::from([(dc("a"), vec!["127.0.0.1:1".parse().unwrap()])]);
    let other =
        ApplicationRoute { routes: vec![rule("/v1/cards/", KeySource::None)], instances: BTreeMap::new() };
    RoutingTable {
        version: Revision(3),
        units: vec![
            unit("u1", "a", Mode::Forward, "0-5000"),
            unit("u2", "b", Mode::Forward, "5001-10000"),
            unit("u3", "a", Mode::Hold, "10001-16000"),
            unit("u4", "c", Mode::Forward, "16001-16100"),
        ],
        mesh: BTreeMap::from([(dc("b"), "127.0.0.2:7200".parse().unwrap())]),
        dns: None,
        applications: BTreeMap::from([
            (AppId::new("bank").unwrap(), ApplicationRoute { routes, instances }),
            (AppId::new("zcards").unwrap(), other),
        ]),
    }
}

fn target(path: &str, key: HeaderText<'static>) -> Result<Target, Code> {
    let compiled = Compiled::new(&table(), &dc("a"));
    compiled
        .target(path, |name| if name == "x-customer" { key } else { HeaderText::Absent })
        .map_err(|r| r.code)
}

#[test]
fn places_follow_home_and_mode() {
    let compiled = Compiled::new(&table(), &dc("a"));
    let places: Vec<_> = compiled.units.iter().map(|u| u.place.clone()).collect();
    let mesh = Place::Mesh { home: dc("b"), address: "127.0.0.2:7200".parse().unwrap() };
    assert_eq!(places, [Place::Here, mesh, Place::Hold, Place::Hold]);
    assert_eq!(compiled.applications[0].instances.len(), 1);
    assert!(Compiled::new(&table(), &dc("b")).applications[0].instances.is_empty());
}

#[test]
fn the_first_rule_wins_and_the_longest_prefix_among_applications() {
    let none = HeaderText::Absent;
    assert_eq!(target("/openapi.json", none), Ok(Target::Application(0)));
    assert_eq!(target("/v1/cards/1", none), Ok(Target::Application(1)));
    assert_eq!(target("/v1/transfers", none), Err(Code::RoutingKeyMissing));
    assert_eq!(
        target("/v1/customers/123456789?x=/v1/accounts/", none),
        target("/v1/x", HeaderText::One(b"123456789"))
    );
    assert_eq!(target("no-slash", none), Err(Code::RouteUnknown));
}

#[test]
fn keys_are_checked() {
    let none = HeaderText::Absent;
    assert_eq!(target("/v1/customers/", none), Err(Code::RoutingKeyMissing));
    assert_eq!(target("/v1/customers//x", none), Err(Code::RoutingKeyMissing));
    assert_eq!(target("/v1/x", HeaderText::One(b"")), Err(Code::RoutingKeyMissing));
    assert_eq!(target("/v1/x", HeaderText::Many), Err(Code::RequestInvalid));
    assert_eq!(target("/v1/x", HeaderText::One(&[0xff])), Err(Code::RequestInvalid));
    assert_eq!(target("/v1/accounts/12", none), Err(Code::AccountNumberInvalid));
    assert_eq!(target("/v1/customers/%zz", none), Err(Code::RequestInvalid));
    assert_eq!(target("/v1/customers/%ff", none), Err(Code::RequestInvalid));
    assert_eq!(target("/v1/customers/%4", none), Err(Code::RequestInvalid));
    let account = AccountNumber::new(Slot::new(5001).unwrap(), 9).unwrap();
    assert_eq!(target(&format!("/v1/accounts/{account}/entries"), none), Ok(Target::Unit(1)));
    let unowned = AccountNumber::new(Slot::new(16_200).unwrap(), 9).unwrap();
    assert_eq!(target(&format!("/v1/accounts/{unowned}"), none), Err(Code::SlotUnowned));
}

#[test]
fn an_encoded_key_is_the_key() {
    assert_eq!(
        target("/v1/customers/%31%32", HeaderText::Absent),
        target("/v1/customers/12", HeaderText::Absent)
    );
}

#[test]
fn dot_segments_are_refused() {
    for path in ["/v1/customers/..", "/v1/customers/../x", "/.", "/a/%2e%2E/b", "/a/.%2e"] {
        assert_eq!(target(path, HeaderText::Absent), Err(Code::RequestInvalid), "{path}");
    }
    for path in ["/.well-known", "/...", "/a.b", "/%2f"] {
        assert_eq!(target(path, HeaderText::Absent), Ok(Target::Application(0)), "{path}");
    }
}

#[test]
fn the_first_claimant_of_a_slot_has_it() {
    let mut table = table();
    table.units.push(unit("late", "a", Mode::Forward, "0-16383"));
    let compiled = Compiled::new(&table, &dc("a"));
    assert_eq!(compiled.unit_of(0, Slot::new(5000).unwrap()), Ok(0));
    assert_eq!(compiled.unit_of(0, Slot::new(16_383).unwrap()), Ok(4));
}

proptest! {
    #[test]
    fn every_slot_is_owned_as_the_table_says(slot in 0_u16..SLOT_COUNT, cuts in prop::collection::vec(0_u16..SLOT_COUNT, 0..6)) {
        let mut table = table();
        table.units = cuts
            .chunks_exact(2)
            .enumerate()
            .map(|(n, pair)| {
                let (first, last) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
                let mut unit = unit(&format!("u{n}"), "a", Mode::Forward, "0-0");
                unit.slots = vec![SlotRange { first: Slot::new(first).unwrap(), last: Slot::new(last).unwrap() }];
                unit
            })
            .collect();
        let compiled = Compiled::new(&table, &dc("a"));
        let slot = Slot::new(slot).unwrap();
        let found = compiled.unit_of(0, slot).ok().map(|i| compiled.units[i].unit.clone());
        prop_assert_eq!(found, table.unit_of(slot).map(|u| u.unit.clone()));
    }

    #[test]
    fn no_path_and_no_key_panics(path in "(/[a-z0-9.%/?]{0,20}|\\PC{0,30})", key in prop::collection::vec(any::<u8>(), 0..20)) {
        let compiled = Compiled::new(&table(), &dc("a"));
        let _ = compiled.target(&path, |_| HeaderText::One(&key));
    }

    #[test]
    fn a_header_key_and_a_path_key_meet_in_one_unit(key in "[a-zA-Z0-9]{1,20}") {
        let compiled = Compiled::new(&table(), &dc("a"));
        let by_path = compiled.target(&format!("/v1/customers/{key}"), |_| HeaderText::Absent);
        let by_header = compiled.target("/v1/x", |_| HeaderText::One(key.as_bytes()));
        prop_assert_eq!(by_path, by_header);
        if let Ok(Target::Unit(unit)) = by_path {
            prop_assert!(table().units[unit].slots[0].contains(slot_of(key.as_bytes())));
        }
    }
}
