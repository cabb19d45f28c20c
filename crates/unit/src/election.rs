//! What detached replicas prove about acknowledged commits, and which of them may be promoted.
//!
//! A commit acknowledged under a claim is on the claim's primary and on `need` of its `members`. Any
//! `|members| - need + 1` of the members include one that has it (R + W > N), and since logs are prefixes of one
//! another on a timeline, the longest log among them has all such commits.

use std::collections::{BTreeMap, BTreeSet};

use dujiang_types::unit::Claim;
use dujiang_types::{DcId, Epoch, Position};

/// A replica that receives from nobody and has said how far it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detached {
    /// How far its log reaches: timeline, then received and flushed.
    pub position: Position,
    /// The highest epoch under which its data was promoted: that data holds every commit of that epoch and,
    /// because that promotion was proven, of all epochs before.
    pub primary_epoch: Option<Epoch>,
}

/// Why no promotion can be proven.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("commits of epoch {epoch} may be missing: needs {primary}, or {short} more of {}", names(absent))]
pub struct Unproven {
    /// The claim's epoch.
    pub epoch: Epoch,
    /// The claim's primary.
    pub primary: DcId,
    /// How many more of the absent members are needed.
    pub short: usize,
    /// Members that have not reported.
    pub absent: BTreeSet<DcId>,
}

fn names(set: &BTreeSet<DcId>) -> String {
    if set.is_empty() {
        return "nobody".to_owned();
    }
    set.iter().map(DcId::as_str).collect::<Vec<_>>().join(", ")
}

/// How many members have to be seen so that one of them has every commit of the claim.
fn quorum(claim: &Claim) -> usize {
    (claim.set.members.len() + 1).saturating_sub(usize::from(claim.set.need))
}

/// The lowest position that is certain to hold every acknowledged commit of the claim, as far as `seen` shows:
/// `None` means any position does (nothing can have been acknowledged).
fn floor(claim: &Claim, seen: &BTreeMap<DcId, Detached>) -> Result<Option<Position>, Unproven> {
    let members = seen.iter().filter(|(dc, _)| claim.set.members.contains(*dc));
    let by_members = members.clone().map(|(_, d)| d.position).max();
    if members.count() >= quorum(claim) {
        return Ok(by_members);
    }
    // Not enough members; the data of a primary of that epoch or a later one will do. The longest of them is
    // asked for, so that the answer does not depend on the order of the map.
    let owners = seen.values().filter(|d| d.primary_epoch >= Some(claim.epoch));
    if let Some(position) = owners.map(|d| d.position).max() {
        return Ok(Some(position));
    }
    let present = claim.set.members.iter().filter(|dc| seen.contains_key(*dc)).count();
    Err(Unproven {
        epoch: claim.epoch,
        primary: claim.primary.clone(),
        short: quorum(claim) - present,
        absent: claim.set.members.iter().filter(|dc| !seen.contains_key(*dc)).cloned().collect(),
    })
}

/// Replicas that hold every acknowledged commit of every claim, for certain.
pub fn complete(claims: &[Claim], seen: &BTreeMap<DcId, Detached>) -> Result<BTreeSet<DcId>, Unproven> {
    let mut floors = Vec::with_capacity(claims.len());
    for claim in claims {
        floors.push((claim, floor(claim, seen)?));
    }
    let holds_all = |d: &Detached| {
        floors.iter().all(|(claim, floor)| {
            d.primary_epoch >= Some(claim.epoch) || floor.is_none_or(|floor| d.position >= floor)
        })
    };
    Ok(seen.iter().filter(|(_, d)| holds_all(d)).map(|(dc, _)| dc.clone()).collect())
}

/// The replica to promote among the complete ones that can be reached: the home if it is one of them (nothing
/// is moved that need not be), else the longest log, else the first by name.
pub fn winner(
    claims: &[Claim],
    seen: &BTreeMap<DcId, Detached>,
    reachable: &BTreeSet<DcId>,
    home: &DcId,
) -> Result<Option<DcId>, Unproven> {
    let complete = complete(claims, seen)?;
    let candidates: Vec<&DcId> = complete.iter().filter(|dc| reachable.contains(*dc)).collect();
    if candidates.contains(&home) {
        return Ok(Some(home.clone()));
    }
    // max_by_key takes the last of equals; reversed, the first by name.
    Ok(candidates.into_iter().rev().max_by_key(|dc| seen[*dc].position).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dujiang_types::Lsn;
    use dujiang_types::unit::SyncSet;
    use proptest::prelude::*;

    fn dc(name: &str) -> DcId {
        DcId::new(name).unwrap()
    }

    fn claim(epoch: u64, primary: &str, members: &[&str], need: u8) -> Claim {
        let members = members.iter().map(|m| dc(m)).collect();
        Claim { epoch: Epoch(epoch), primary: dc(primary), set: SyncSet { members, need } }
    }

    fn at(timeline: u32, flushed: u64, primary_epoch: Option<u64>) -> Detached {
        Detached {
            position: Position { timeline, flushed: Lsn(flushed) },
            primary_epoch: primary_epoch.map(Epoch),
        }
    }

    fn seen(items: &[(&str, Detached)]) -> BTreeMap<DcId, Detached> {
        items.iter().map(|(name, d)| (dc(name), *d)).collect()
    }

    fn names_of(result: Result<BTreeSet<DcId>, Unproven>) -> Option<String> {
        result.ok().map(|set| set.iter().map(DcId::as_str).collect::<Vec<_>>().join(" "))
    }

    type Case<'a> = (&'a str, Vec<Claim>, Vec<(&'a str, Detached)>, Option<&'a str>);

    #[test]
    fn what_is_proven() {
        let any_1_of_bc = claim(1, "a", &["b", "c"], 1);
        let only_c = claim(1, "a", &["c"], 1);
        let (b, c) = (("b", at(1, 90, None)), ("c", at(1, 80, None)));
        let a = ("a", at(1, 99, Some(1)));
        #[rustfmt::skip]
        let cases: &[Case] = &[
            ("both members: the longer log is complete", vec![any_1_of_bc.clone()], vec![b, c], Some("b")),
            ("one of two members proves nothing", vec![any_1_of_bc.clone()], vec![b], None),
            ("the only member suffices", vec![only_c.clone()], vec![c], Some("c")),
            ("not a member: proves nothing", vec![only_c.clone()], vec![b], None),
            ("the primary's own data suffices", vec![any_1_of_bc.clone()], vec![a], Some("a")),
            ("with the primary alone, a shorter member is not complete", vec![any_1_of_bc.clone()], vec![a, c], Some("a")),
            ("with both members the primary's unacknowledged tail is not needed", vec![any_1_of_bc.clone()], vec![a, b, c], Some("a b")),
            ("while the set changes both must be proven", vec![only_c.clone(), any_1_of_bc.clone()], vec![c], None),
            ("and both members prove both, but c must not be behind b", vec![only_c.clone(), any_1_of_bc.clone()], vec![b, c], Some("b")),
            ("a set that could not acknowledge proves itself", vec![claim(1, "a", &[], 1)], vec![c], Some("c")),
            ("asynchronous: only the primary's data", vec![claim(1, "a", &["b", "c"], 0)], vec![b, c], None),
            ("a later promotion holds what was before", vec![any_1_of_bc.clone(), claim(2, "b", &["c"], 1)],
                vec![("b", at(2, 91, Some(2)))], Some("b")),
            ("a promotion that never happened leaves the older claim", vec![any_1_of_bc.clone(), claim(2, "b", &["c"], 1)], vec![c], None),
            ("timeline first: a long old log does not win", vec![claim(2, "b", &["a", "c"], 1)],
                vec![("a", at(1, 999, Some(1))), ("c", at(2, 50, None))], Some("c")),
        ];
        for (what, claims, reports, expected) in cases {
            assert_eq!(names_of(complete(claims, &seen(reports))).as_deref(), *expected, "{what}");
        }
    }

    #[test]
    fn the_home_is_preferred_and_only_the_reachable_win() {
        let claims = [claim(1, "a", &["b", "c"], 1)];
        let reports = seen(&[("a", at(1, 90, Some(1))), ("b", at(1, 90, None)), ("c", at(1, 90, None))]);
        let reachable = |names: &[&str]| names.iter().map(|n| dc(n)).collect::<BTreeSet<_>>();
        let win = |names: &[&str]| winner(&claims, &reports, &reachable(names), &dc("a")).unwrap();
        assert_eq!(win(&["a", "b", "c"]), Some(dc("a")));
        assert_eq!(win(&["b", "c"]), Some(dc("b")));
        assert_eq!(win(&[]), None);
    }

    proptest! {
        /// Acknowledge commits under any set and any flushes that satisfy it; whoever is called complete by any
        /// subset of replicas must have every acknowledged commit.
        #[test]
        fn the_complete_have_all_acknowledged_commits(
            flushed in proptest::collection::vec(0_u64..20, 4),
            members in proptest::collection::btree_set(1_usize..4, 0..4),
            need in 0_u8..4,
            visible in proptest::collection::btree_set(0_usize..4, 0..5),
        ) {
            // Replica 0 is the primary and has everything: 20 records.
            let all = ["p", "q", "r", "s"];
            let mut positions = flushed;
            positions[0] = 20;
            let mut of_members: Vec<u64> = members.iter().map(|m| positions[*m]).collect();
            of_members.sort_unstable_by(|x, y| y.cmp(x));
            let acknowledged = match usize::from(need) {
                0 => 20,
                n if n > of_members.len() => 0,
                n => of_members[n - 1],
            };
            let member_names: Vec<&str> = members.iter().map(|m| all[*m]).collect();
            let claims = [claim(1, "p", &member_names, need)];
            let reports: BTreeMap<DcId, Detached> = visible
                .iter()
                .map(|i| (dc(all[*i]), at(1, positions[*i], (*i == 0).then_some(1))))
                .collect();
            if let Ok(complete) = complete(&claims, &reports) {
                for name in complete {
                    prop_assert!(reports[&name].position.flushed.0 >= acknowledged);
                }
            }
        }
    }
}
