//! Every kind of tampering with a journal is found, and the first record concerned is named.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dujiang_bank_controls::journal::{
    Act, ActError, Actor, Approval, Chain, Checkpoint, Digest, JournalId, Record, Tampering, verify,
};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;

fn journal() -> JournalId {
    JournalId::new("unit-1").unwrap()
}

fn act(n: usize) -> Act {
    Act {
        who: Actor { id: format!("teller-{}", n % 3), role: "Teller".into() },
        at: Timestamp::from_microsecond(1_795_000_000_000_000 + i64::try_from(n).unwrap()).unwrap(),
        what: "account.block".into(),
        kind: "account".into(),
        object: format!("62000100000000{n}"),
        before: n.is_multiple_of(2).then(|| r#"{"state":"active"}"#.into()),
        after: Some(format!(r#"{{"state":"冻结","n":{n}}}"#)),
        approval: n.is_multiple_of(5).then(|| Approval {
            by: Actor { id: "manager".into(), role: "BranchManager".into() },
            at: Timestamp::from_microsecond(1_795_000_000_000_009).unwrap(),
        }),
    }
}

fn written(acts: impl IntoIterator<Item = Act>) -> Vec<Record> {
    let mut chain = Chain::begin(journal());
    acts.into_iter().map(|act| chain.append(act).unwrap()).collect()
}

fn records(count: usize) -> Vec<Record> {
    written((0..count).map(act))
}

fn checkpoint(record: &Record) -> Checkpoint {
    Checkpoint { number: record.number, digest: record.digest }
}

fn number(at: usize) -> u64 {
    at as u64 + 1
}

/// Every field that somebody could change.
fn changes() -> Vec<fn(&mut Record)> {
    vec![
        |r| r.act.who.id.push('x'),
        |r| r.act.who.role = "HeadOffice".into(),
        |r| r.act.at += jiff::SignedDuration::from_micros(1),
        |r| r.act.what = "account.unblock".into(),
        |r| r.act.kind.push('x'),
        |r| r.act.object.push('0'),
        |r| r.act.before = Some("{}".into()),
        |r| r.act.after = None,
        |r| r.act.approval = Some(Approval { by: Actor { id: "m".into(), role: "r".into() }, at: r.act.at }),
        |r| r.previous = Digest::from_bytes([7; 32]),
        |r| r.digest = Digest::from_bytes([7; 32]),
    ]
}

#[test]
fn a_journal_as_it_was_written_is_intact() {
    let records = records(10);
    let intact =
        verify(&journal(), None, &records, &[checkpoint(&records[6]), checkpoint(&records[2])]).unwrap();
    assert_eq!((intact.head, intact.unproven), (checkpoint(&records[9]), 3));
    assert_eq!(verify(&journal(), None, &[], &[]).unwrap().head.number, 0);
    let middle = Some(checkpoint(&records[3]));
    assert_eq!(verify(&journal(), middle, &records[4..], &[]).unwrap().head, intact.head, "piece by piece");
    let forged = Checkpoint { number: 4, digest: Digest::from_bytes([7; 32]) };
    let elsewhere = verify(&journal(), middle, &records[4..], &[forged]);
    assert_eq!(
        elsewhere,
        Err(Tampering::Rewritten { after: 0, place: 4 }),
        "where a piece begins counts, too"
    );
    let origin = Checkpoint { number: 0, digest: Digest::from_bytes([7; 32]) };
    assert!(verify(&journal(), None, &records, &[origin]).is_err());
    let end = Some(Checkpoint { number: u64::MAX, ..forged });
    assert_eq!(verify(&journal(), end, &records, &[]), Err(Tampering::Inserted { place: u64::MAX }));
    let other = JournalId::new("unit-2").unwrap();
    assert_eq!(verify(&other, None, &records, &[]), Err(Tampering::Changed { place: 1 }));
}

#[test]
fn a_journal_goes_on_after_a_restart() {
    let records = records(3);
    let mut chain = Chain::resume(journal(), checkpoint(&records[1]));
    assert_eq!(chain.append(act(2)).unwrap(), records[2]);
    let mut finer = Chain::resume(journal(), checkpoint(&records[1]));
    let at = act(2).at + jiff::SignedDuration::from_nanos(999);
    assert_eq!(finer.append(Act { at, ..act(2) }).unwrap(), records[2], "what a database keeps of a time");
}

#[test]
fn acts_have_bounds_and_nobody_approves_their_own() {
    let mut chain = Chain::begin(journal());
    let own = Act { approval: Some(Approval { by: act(1).who, at: act(1).at }), ..act(1) };
    assert_eq!(chain.append(own), Err(ActError::OwnApproval));
    assert_eq!(chain.append(Act { what: " ".into(), ..act(1) }), Err(ActError::Word("the act's name")));
    assert_eq!(
        chain.append(Act { object: "x".repeat(141), ..act(1) }),
        Err(ActError::Word("the object's number"))
    );
    assert_eq!(chain.append(Act { after: Some("x".repeat(65_537)), ..act(1) }), Err(ActError::State));
    assert_eq!(chain.head().number, 0, "nothing was added");
    assert!(["", "a b", "账", &"x".repeat(64)].iter().all(|name| JournalId::new(*name).is_none()));
}

#[test]
fn what_an_object_was_is_not_printed() {
    let printed = format!("{:?}", records(2));
    assert!(
        printed.contains("account.block") && !printed.contains("冻结") && !printed.contains("active"),
        "{printed}"
    );
}

proptest! {
    #[test]
    fn a_change_of_any_field_is_named(count in 1..20_usize, at: Index, change: Index) {
        let mut records = records(count);
        let at = at.index(count);
        let changes = changes();
        changes[change.index(changes.len())](&mut records[at]);
        prop_assert_eq!(verify(&journal(), None, &records, &[]), Err(Tampering::Changed { place: number(at) }));
    }

    #[test]
    fn a_change_with_a_new_digest_is_named(count in 2..20_usize, at: Index) {
        let mut records = records(count);
        let at = at.index(count - 1);
        // Whoever does this makes the record itself whole again, as a journal of its own up to there would have it.
        let forged = written(records[..=at].iter().enumerate().map(|(n, r)| {
            if n == at { Act { after: Some("forged".into()), ..r.act.clone() } } else { r.act.clone() }
        }));
        records[at] = forged[at].clone();
        prop_assert_eq!(verify(&journal(), None, &records, &[]), Err(Tampering::Changed { place: number(at) }));
    }

    #[test]
    fn removed_records_are_named(count in 2..20_usize, at: Index, many in 1..5_usize) {
        let mut records = records(count);
        let at = at.index(count - 1);
        let end = (at + many).min(count - 1);
        records.drain(at..end);
        prop_assert_eq!(verify(&journal(), None, &records, &[]), Err(Tampering::Removed { place: number(at) }));
    }

    #[test]
    fn inserted_records_are_named(count in 1..20_usize, at: Index, source: Index, forged: bool) {
        let mut records = records(count);
        let at = at.index(count);
        let record = if forged {
            let mut record = records[at].clone();
            record.act.object = "forged".into();
            record
        } else {
            // A copy of an earlier record, or of the one that stands there.
            records[source.index(at + 1)].clone()
        };
        // A copy of a record before itself is the same journal as one after itself: the second one is the inserted one.
        let copy_of_itself = record == records[at];
        records.insert(at, record);
        let place = if copy_of_itself { number(at + 1) } else { number(at) };
        prop_assert_eq!(verify(&journal(), None, &records, &[]), Err(Tampering::Inserted { place }));
    }

    #[test]
    fn reordered_records_are_named(count in 2..20_usize, one: Index, other: Index) {
        let mut records = records(count);
        let (one, other) = (one.index(count), other.index(count));
        prop_assume!(one != other);
        let (low, high) = (one.min(other), one.max(other));
        records.swap(low, high);
        let expected = Tampering::Reordered { place: number(low), found: number(high) };
        prop_assert_eq!(verify(&journal(), None, &records, &[]), Err(expected));
    }

    #[test]
    fn a_chain_computed_anew_differs_from_a_checkpoint(count in 3..20_usize, at: Index, before: Index, after: Index) {
        let records = records(count);
        let at = 1 + at.index(count - 1);
        let (good, bad) = (before.index(at), at + after.index(count - at));
        let forged = written(records.iter().enumerate().map(|(n, r)| {
            if n == at { Act { after: Some("forged".into()), ..r.act.clone() } } else { r.act.clone() }
        }));
        let checkpoints = [checkpoint(&records[bad]), checkpoint(&records[good])];
        let expected = Tampering::Rewritten { after: number(good), place: number(bad) };
        prop_assert_eq!(verify(&journal(), None, &forged, &checkpoints), Err(expected));
        prop_assert!(verify(&journal(), None, &forged, &checkpoints[1..]).is_ok(), "without it nobody could know");
    }

    #[test]
    fn a_journal_cut_off_before_a_checkpoint_is_noticed(count in 2..20_usize, keep: Index, at: Index) {
        let records = records(count);
        let keep = keep.index(count - 1);
        let at = keep + at.index(count - keep);
        let result = verify(&journal(), None, &records[..keep], &[checkpoint(&records[at])]);
        let expected = Tampering::Truncated { last: keep as u64, checkpoint: number(at) };
        prop_assert_eq!(result, Err(expected));
    }
}
