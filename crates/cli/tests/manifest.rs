//! Every mistake in a manifest is named with its file, line and what would be right; all of them at once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use dujiang_cli::manifest::check::Programs;
use dujiang_cli::manifest::{ControlPlane, Manifest};
use dujiang_types::DcId;
use tempfile::TempDir;

const EXAMPLE: &str = include_str!("../../../examples/two-regions.yaml");

/// A folder with an executable `dujiang-bank`, as if it were built.
fn built() -> (TempDir, Programs) {
    let dir = tempfile::tempdir().unwrap();
    let bank = dir.path().join("dujiang-bank");
    std::fs::write(&bank, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&bank, std::fs::Permissions::from_mode(0o755)).unwrap();
    let programs = Programs { beside: dir.path().to_owned(), path: Vec::new() };
    (dir, programs)
}

/// The messages for a text, in a file called `m.yaml`; the program folder's path is written `BESIDE`.
fn judge(text: &str) -> String {
    let (dir, programs) = built();
    let file = dir.path().join("m.yaml");
    std::fs::write(&file, text).unwrap();
    match Manifest::read(&file, &programs) {
        Ok(_) => String::new(),
        Err(refused) => {
            let beside = dir.path().display().to_string();
            refused.to_string().replace(&format!("{beside}/m.yaml"), "m.yaml").replace(&beside, "BESIDE")
        }
    }
}

/// The example with one text replaced where it occurs first.
fn with(from: &str, to: &str) -> String {
    assert!(EXAMPLE.contains(from), "the example has no {from:?}");
    EXAMPLE.replacen(from, to, 1)
}

#[test]
fn a_control_server_in_every_data_center_takes_three_of_them() {
    let (_dir, programs) = built();
    let manifest = Manifest::parse(&with("listen: 127.0.1.1:7000", "store: etcd"), &programs).unwrap();
    assert_eq!(manifest.control, ControlPlane::Everywhere);
    let near = DcId::new("guiyang-1").unwrap();
    let urls = ["https://127.0.21.1:7000", "https://127.0.11.1:7000", "https://127.0.12.1:7000"];
    assert_eq!(manifest.control_urls(Some(&near)), urls, "the nearest first");

    let two = "platform: p\ncontrol: { store: etcd }\nregions:\n  - name: r\n    data_centers:\n      - name: a\n        \
               network: 127.0.11.0/24\n        gateway: { port: 8080, threads: 1 }\n";
    let said = Manifest::parse(two, &programs).unwrap_err().into_sorted();
    assert!(said.iter().any(|mistake| mistake.wrong == "`store: etcd` with 1 data centers"), "{said:?}");
    let wrong = Manifest::parse(&with("listen: 127.0.1.1:7000", "store: etdc"), &programs).unwrap_err();
    assert!(wrong.into_sorted().iter().any(|mistake| mistake.right == "did you mean `etcd`?"));
}

#[test]
fn certificates_hold_for_a_day_or_as_long_as_the_manifest_says() {
    let (_dir, programs) = built();
    assert_eq!(Manifest::parse(EXAMPLE, &programs).unwrap().identities.lifetime_s, 86_400);
    let text = |lifetime: &str| format!("{EXAMPLE}\nidentities: {{ lifetime: {lifetime} }}\n");
    assert_eq!(Manifest::parse(&text("90m"), &programs).unwrap().identities.lifetime_s, 5_400);
    for wrong in ["59s", "169h", "0", "a day", "[]"] {
        let said = Manifest::parse(&text(wrong), &programs).unwrap_err().into_sorted();
        assert!(said.iter().any(|mistake| mistake.right.contains("24h")), "{wrong}: {said:?}");
    }
}

#[test]
fn a_data_center_may_be_launched_elsewhere() {
    let (_dir, programs) = built();
    let text = with(
        "network: 127.0.11.0/24",
        "network: 127.0.11.0/24\n        launcher: [ip, netns, exec, chengdu-1]",
    );
    let manifest = Manifest::parse(&text, &programs).unwrap();
    let launcher = &manifest.launchers[&DcId::new("chengdu-1").unwrap()];
    assert_eq!(launcher, &["ip", "netns", "exec", "chengdu-1"]);
    assert_eq!(manifest.launchers.len(), 1);
    let listens = dujiang_cli::supervisor::ports::addresses(&manifest);
    assert!(
        !listens.keys().any(|address| address.to_string().starts_with("127.0.11.")),
        "nobody listens here"
    );
    let wrong = Manifest::parse(&text.replace("[ip, netns, exec, chengdu-1]", "ssh"), &programs).unwrap_err();
    let right = "write a list, for example `launcher: [ip, netns, exec, chengdu-1]`";
    assert!(wrong.into_sorted().iter().any(|mistake| mistake.right == right));
}

#[test]
fn the_example_is_right_and_is_what_it_says() {
    let (_dir, programs) = built();
    let manifest = Manifest::parse(EXAMPLE, &programs).unwrap();
    assert_eq!(manifest.control, ControlPlane::One("127.0.1.1:7000".parse().unwrap()));
    assert_eq!(manifest.control_urls(None), ["https://127.0.1.1:7000"]);
    let dc = &manifest.data_centers[&DcId::new("guiyang-1").unwrap()];
    assert_eq!(
        (dc.region.as_str(), dc.gateway_address().to_string().as_str()),
        ("guiyang", "127.0.21.1:8080")
    );
    assert_eq!(manifest.units.len(), 3);
    let homes: Vec<_> = manifest.units.values().map(|unit| unit.home.as_str()).collect();
    assert_eq!(homes, ["chengdu-1", "chengdu-2", "guiyang-1"]);
    assert!(manifest.units.values().all(|unit| unit.replicas.len() == 3));
}

/// One thing wrong each: what is replaced in the example by what, and all that is said about it.
#[rustfmt::skip] // A table reads best as it is.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("    home: chengdu-1\n", "    home: chengdu-1\n    colour: red\n",
        "m.yaml:63:5: unknown field `colour`; the fields of a unit are `name`, `application`, `home`, `replicas`, `slots`, `durability` and `port`"),
    ("name: chengdu-1", "name: Chengdu_1",
        "m.yaml:17:15: `name`: \"Chengdu_1\" is not a name; 1 to 63 of a-z, 0-9 and '-', starting with a letter, not ending with '-'\nm.yaml:32:20: there is no data center `chengdu-1`; did you mean `chengdu-2`?\nm.yaml:62:11: there is no data center `chengdu-1`; did you mean `chengdu-2`?\nm.yaml:63:16: there is no data center `chengdu-1`; did you mean `chengdu-2`?\nm.yaml:70:16: there is no data center `chengdu-1`; did you mean `chengdu-2`?\nm.yaml:77:16: there is no data center `chengdu-1`; did you mean `chengdu-2`?"),
    ("platform: two-regions\n", "",
        "m.yaml:10:1: field `platform` is missing; write for example `platform: two-regions`"),
    ("platform: two-regions", "platform: two-regions\nplatform: again",
        "m.yaml:10:1: field `platform` stands here twice; keep one of them (the first is in line 9)"),
    ("- name: chengdu-2", "- name: chengdu-1",
        "m.yaml:20:15: there is already a data center `chengdu-1` (line 17); give each its own name\nm.yaml:32:31: there is no data center `chengdu-2`; did you mean `chengdu-1`?\nm.yaml:63:27: there is no data center `chengdu-2`; did you mean `chengdu-1`?\nm.yaml:69:11: there is no data center `chengdu-2`; did you mean `chengdu-1`?\nm.yaml:70:27: there is no data center `chengdu-2`; did you mean `chengdu-1`?\nm.yaml:77:27: there is no data center `chengdu-2`; did you mean `chengdu-1`?"),
    ("  - name: guiyang\n", "  - name: chengdu\n",
        "m.yaml:23:11: there is already a region `chengdu` (line 15); give each its own name\nm.yaml:49:7: `dns`: there is no region `guiyang`; name one of `regions`"),
    ("- name: unit-2", "- name: unit-1",
        "m.yaml:67:11: there is already a unit `unit-1` (line 60); give each its own name"),
    ("replicas: [chengdu-1, chengdu-2, guiyang-1]", "replicas: [chengdu-1, chengdu-3]",
        "m.yaml:63:27: there is no data center `chengdu-3`; did you mean `chengdu-1`?"),
    ("replicas: [chengdu-1, chengdu-2, guiyang-1]", "replicas: [chengdu-2, guiyang-1]",
        "m.yaml:62:11: home `chengdu-1` is not among the unit's replicas; add `chengdu-1` to `replicas` (line 63)"),
    ("replicas: [chengdu-1, chengdu-2, guiyang-1]", "replicas: [chengdu-1]",
        "m.yaml:63:5: durability `zero` needs at least 2 replicas: a commit is acknowledged once it is in two data centers; add a data center to `replicas` (3 to keep serving when one is lost), or write `durability: bounded`"),
    ("replicas: [chengdu-1, chengdu-2, guiyang-1]", "replicas: [chengdu-1, chengdu-1, chengdu-2]",
        "m.yaml:63:27: chengdu-1 stands in `replicas` twice; name it once"),
    ("replicas: [chengdu-1, chengdu-2, guiyang-1]", "replicas: []",
        "m.yaml:63:15: `replicas` is empty; write a list, for example `replicas: [chengdu-1, chengdu-2]`"),
    ("replicas: [chengdu-1, chengdu-2, guiyang-1]", "replicas: chengdu-1",
        "m.yaml:63:15: `replicas` is \"chengdu-1\"; write a list, for example `replicas: [chengdu-1, chengdu-2]`"),
    ("home: chengdu-1", "home: shanghai",
        "m.yaml:62:11: there is no data center `shanghai`; the data centers are chengdu-1, chengdu-2, guiyang-1"),
    ("home: chengdu-1", "home:",
        "m.yaml:62:9: `home` is empty; write for example `chengdu-1`"),
    ("application: bank", "application: bnak",
        "m.yaml:61:18: there is no application `bnak`; did you mean `bank`?"),
    ("[5461-10922]", "[5400-10922]",
        "m.yaml:71:13: slots 5400-5460 belong to unit `unit-1` already; give every slot to exactly one unit"),
    ("[5461-10922]", "[5471-10922]",
        "m.yaml:59:1: slots 5461-5470 belong to no unit of `bank`: their customers could not be served; add `5461-5470` to the `slots` of a unit"),
    ("[5461-10922]", "[5461-20000]",
        "m.yaml:71:13: `slots`: \"5461-20000\" is not a slot range; write first-last with 0 <= first <= last <= 16383"),
    ("[5461-10922]", "[10922-5461]",
        "m.yaml:71:13: `slots`: \"10922-5461\" is not a slot range; write first-last with 0 <= first <= last <= 16383"),
    ("port: 5402", "port: 5401",
        "m.yaml:73:11: the database of `unit-2` would listen on 127.0.11.1:5401, as the database of `unit-1` does; choose another port"),
    ("port: 5402", "port: 7100",
        "m.yaml:73:11: the database of `unit-2` would listen on 127.0.11.1:7100, as the agent of `chengdu-1` does; choose another port"),
    ("port: 5402", "port: 8080",
        "m.yaml:73:11: the database of `unit-2` would listen on 127.0.11.1:8080, as the gateway of `chengdu-1` does; choose another port"),
    ("port: 5402", "port: 0",
        "m.yaml:73:11: `port` is 0; write a whole number from 1 to 65535"),
    ("port: 5402", "port: five",
        "m.yaml:73:11: `port` is \"five\"; write a whole number from 1 to 65535"),
    ("port: 5402", "port: 70000",
        "m.yaml:73:11: `port` is 70000; write a whole number from 1 to 65535"),
    ("gateway: { port: 8080, threads: 1 }", "gateway: { port: 7200, threads: 1 }",
        "m.yaml:19:26: the gateway of `chengdu-1` would listen on 127.0.11.1:7200, as the gateway (for other gateways) of `chengdu-1` does; choose another port"),
    ("gateway: { port: 8080, threads: 1 }", "gateway: { port: 8080, threads: 0 }",
        "m.yaml:19:41: `threads` is 0; write a whole number from 1 to 64"),
    ("gateway: { port: 8080, threads: 1 }", "gateway: 8080",
        "m.yaml:19:18: `gateway` is 8080; write a mapping with `port` and `threads`"),
    ("127.0.12.0/24", "127.0.11.0/24",
        "m.yaml:21:18: 127.0.11.0/24 overlaps 127.0.11.0/24 of data center `chengdu-1`; give each data center a network of its own"),
    ("127.0.12.0/24", "127.0.12.0/28",
        "m.yaml:21:18: `network`: \"127.0.12.0/28\" is not a network; write address/prefix such as 127.0.11.0/24, prefix 8 to 24"),
    ("127.0.12.0/24", "10.1.12.0/24",
        "m.yaml:21:18: `network`: 10.1.12.0/24 is not a loopback network; take one of 127.0.0.0/8, or write `allow_non_loopback: true` at the top if others may reach it"),
    ("127.0.1.1:7000", "192.168.1.1:7000",
        "m.yaml:12:11: `listen`: 192.168.1.1 is not a loopback address; take one of 127.0.0.0/8, or write `allow_non_loopback: true` at the top if others may reach it"),
    ("127.0.1.1:7000", "127.0.1.1",
        "m.yaml:12:11: `listen`: \"127.0.1.1\" is wrong (invalid socket address syntax); write for example `127.0.1.1:7000`"),
    ("127.0.1.1:7000", "127.0.11.1:7100",
        "m.yaml:18:18: the agent of `chengdu-1` would listen on 127.0.11.1:7100, as the control plane does; choose another port"),
    ("127.0.1.1:7000", "127.0.1.1:0",
        "m.yaml:12:11: `listen` has port 0; name the port, for example 127.0.1.1:7000"),
    ("durability: zero", "durability: zer",
        "m.yaml:65:17: `durability` is \"zer\"; did you mean `zero`?"),
    ("durability: zero", "durability: total",
        "m.yaml:65:17: `durability` is \"total\"; write one of `zero` and `bounded`"),
    ("program: dujiang-bank", "program: dujiang-bnak",
        "m.yaml:31:14: program `dujiang-bnak` is neither beside the `dujiang` binary nor in PATH; build it (`cargo build`) so that it lies in BESIDE, or give its path"),
    ("program: dujiang-bank", "program: ./target/bank",
        "m.yaml:31:14: program `./target/bank` is not the absolute path of a file that can be run; write a path from `/`, or the bare name of a program"),
    ("data_centers: [chengdu-1, chengdu-2, guiyang-1]", "data_centers: [chengdu-1, chengdu-2]",
        "m.yaml:63:38: application `bank` does not run in `guiyang-1`; add `guiyang-1` to the application's `data_centers`, or take the replica away\nm.yaml:70:38: application `bank` does not run in `guiyang-1`; add `guiyang-1` to the application's `data_centers`, or take the replica away\nm.yaml:77:38: application `bank` does not run in `guiyang-1`; add `guiyang-1` to the application's `data_centers`, or take the replica away"),
    ("- name: bank", "- name: postgres",
        "m.yaml:30:11: `postgres` is a reserved name; choose another, for example `postgres-app`\nm.yaml:61:18: there is no application `bank`; the applications are postgres\nm.yaml:68:18: there is no application `bank`; the applications are postgres\nm.yaml:75:18: there is no application `bank`; the applications are postgres"),
    ("prefix: /v1/accounts/", "prefix: v1/accounts/",
        "m.yaml:39:17: `prefix`: \"v1/accounts/\" does not begin with '/'; write `/v1/accounts/`"),
    ("prefix: /v1/customers/", "prefix: /v1/",
        "m.yaml:39:17: route `/v1/accounts/` is never reached: `/v1/` before it matches first; put the longer prefix first\nm.yaml:41:17: route `/v1/messages/` is never reached: `/v1/` before it matches first; put the longer prefix first"),
    ("in: segment, form: hash", "in: segment, form: sha",
        "m.yaml:38:35: `form` is \"sha\"; write one of `hash` and `account`"),
    ("in: segment, form: hash", "in: path, form: hash",
        "m.yaml:38:20: `in` is \"path\"; write one of `segment`, `header` and `none`"),
    ("in: segment, form: hash", "in: header, form: hash, name: X Y",
        "m.yaml:38:46: `name`: \"X Y\" is not a header's name in lower case; write a-z, 0-9 and '-', for example `bank-customer`"),
    ("in: segment, form: hash", "in: header, form: hash",
        "m.yaml:38:14: field `name` is missing; write for example `name: bank-customer`"),
    ("in: none", "in: none, form: hash",
        "m.yaml:44:26: field `form` means nothing for a key of this place; leave it out"),
    ("instances: 1", "instances: 0",
        "m.yaml:33:16: `instances` is 0; write a whole number from 1 to 100"),
    ("port: 9000", "port: 65535\n    args: yes",
        "m.yaml:35:11: `args` is \"yes\"; write a list, for example `args: [--verbose]`"),
    ("instances: 1", "instances: 3\n    env: { DUJIANG_DC: x, A: [1] }",
        "m.yaml:34:12: `DUJIANG_DC` is one of the platform's own variables; choose a name that does not begin with `DUJIANG_`\nm.yaml:34:30: `A` is a list; write text, in quotes if need be"),
    ("platform: two-regions", "platform: two-regions\nallow_non_loopback: maybe",
        "m.yaml:10:21: `allow_non_loopback` is \"maybe\"; write `true` or `false`"),
    ("control:\n", "control: [\n",
        "m.yaml:14:8: this is not YAML: while parsing a flow mapping, did not find expected ',' or '}' at line 14, column 8; mind indentation, quotes and brackets"),
    ("units:", "unit:",
        "m.yaml:9:1: field `units` is missing; write for example `units: [{ name: unit-1, ... }]`\nm.yaml:59:1: unknown field `unit`; did you mean `units`?"),
];

#[test]
fn each_mistake_is_named_with_its_place_and_what_would_be_right() {
    for (from, to, message) in MISTAKES {
        assert_eq!(judge(&with(from, to)), *message, "{from:?} -> {to:?}");
    }
}

#[test]
fn all_mistakes_are_named_at_once() {
    let text = EXAMPLE
        .replacen("network: 127.0.12.0/24", "network: 10.0.0.0/8", 1)
        .replacen("program: dujiang-bank", "program: no-such-bank", 1)
        .replacen("slots: [0-5460]", "slots: [0-5000]", 1)
        .replacen("home: guiyang-1", "home: guiyang-2", 1);
    let said = judge(&text);
    let places: Vec<&str> = said.lines().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(places, ["m.yaml:21:18", "m.yaml:31:14", "m.yaml:59:1", "m.yaml:76:11"], "{said}");
}

#[test]
fn what_is_no_manifest_at_all_is_said_in_one_sentence() {
    for text in ["", "- a\n", "a: b: c\n", "a: &x [*x]\n", "\u{0}", "{", "'"] {
        let said = judge(text);
        assert!(said.starts_with("m.yaml:1:") && said.lines().count() == 1, "{text:?}: {said}");
    }
    let programs = Programs { beside: "/".into(), path: Vec::new() };
    let missing = Manifest::read(Path::new("nowhere.yaml"), &programs).unwrap_err().to_string();
    assert!(missing.starts_with("nowhere.yaml:1:1: cannot read the file"), "{missing}");
}

#[test]
fn every_application_has_slots_of_its_own() {
    let lists = "  - { name: lists, program: dujiang-bank, data_centers: [chengdu-1, chengdu-2, guiyang-1], instances: 1, \
                 port: 9100, routes: [{ prefix: /v1/lists/, key: { in: segment, form: hash } }] }\n\n# A unit is a slice";
    let unit = |slots: &str| {
        format!(
            "  - {{ name: unit-4, application: lists, home: chengdu-1, replicas: [chengdu-1, chengdu-2], slots: [{slots}], \
             durability: zero, port: 5404 }}\n"
        )
    };
    let text = with("# A unit is a slice", lists);
    assert_eq!(judge(&(text.clone() + &unit("0-16383"))), "");
    let said = judge(&(text + &unit("0-16000")));
    assert!(
        said.contains("slots 16001-16383 belong to no unit of `lists`") && said.lines().count() == 1,
        "{said}"
    );
}

#[test]
fn addresses_beyond_loopback_are_allowed_when_the_manifest_says_so() {
    let text =
        with("127.0.12.0/24", "10.1.12.0/24").replacen("platform:", "allow_non_loopback: true\nplatform:", 1);
    assert_eq!(judge(&text), "");
}

#[test]
fn a_witness_has_a_vote_between_two_regions_and_nothing_else() {
    let (_dir, programs) = built();
    let witness = "\nwitness: { name: vote, network: 127.0.51.0/24 }\n";
    let text = format!("{}{witness}", with("listen: 127.0.1.1:7000", "store: etcd"));
    let manifest = Manifest::parse(&text, &programs).unwrap();
    let members: Vec<String> = manifest.members().iter().map(|(dc, host)| format!("{dc} {host}")).collect();
    assert_eq!(members, ["chengdu-1 127.0.11.1", "guiyang-1 127.0.21.1", "vote 127.0.51.1"]);
    assert_eq!(manifest.control_urls(None), ["https://127.0.11.1:7000", "https://127.0.21.1:7000"]);
    let alone = Manifest { control_sites: [DcId::new("guiyang-1").unwrap()].into(), ..manifest };
    assert_eq!(alone.members().len(), 1, "re-formed without it");

    let wrong = |from: &str, to: &str| judge(&text.replacen(from, to, 1));
    assert!(wrong("name: vote", "name: guiyang-1").contains("`guiyang-1` is a data center"));
    assert!(
        wrong("127.0.51.0/24", "127.0.12.0/24").contains("overlaps 127.0.12.0/24 of data center `chengdu-2`")
    );
    assert!(wrong("127.0.51.0/24", "10.0.0.0/24").contains("not a loopback network"));
    assert!(wrong("{ name: vote", "{ nam: vote").contains("did you mean `name`?"));
    let three = "regions:\n  - name: third\n    data_centers:\n      - name: third-1\n        network: 127.0.41.0/24\n        \
                 gateway: { port: 8080, threads: 1 }\n";
    assert!(wrong("regions:\n", three).contains("a witness for 3 regions"));
}
