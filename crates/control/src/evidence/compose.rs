//! Makes a report of an operation that is over and of what was observed meanwhile. Pure.

use std::collections::BTreeMap;

use dujiang_evidence::{FORMAT, Kind, Layer, Moment, Outcome, Report, Requests, Rule, UnitPart};
use dujiang_types::operation::{Operation, OperationState, Step, Work};
use dujiang_types::report::TurnReport;
use dujiang_types::{DcId, Epoch};
use dujiang_unit::safety;
use jiff::{SignedDuration, Timestamp};

use super::seen::SeenMoment;

/// What was observed of the operation's unit.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// When the home was last heard before the operation began.
    pub(crate) home_heard: Option<Timestamp>,
    /// States of its replicas.
    pub(crate) moments: Vec<SeenMoment>,
    /// What gateways saw.
    pub(crate) turns: BTreeMap<DcId, TurnReport>,
    /// Where the unit was at home before, and is now.
    pub(crate) from: Option<DcId>,
    pub(crate) to: Option<DcId>,
}

/// The report of an operation. Platform, versions and the report before are the writer's to fill in.
pub(crate) fn report(operation: &Operation, seen: Observed, now: Timestamp) -> Report {
    let steps = &operation.status.steps;
    let first = steps.first().map_or(now, |step| step.at);
    let ended = steps.last().map_or(now, |step| step.at);
    let (kind, subject) = match &operation.spec.work {
        Work::Move { unit, to } => (Kind::Move, format!("move of {unit} to {to}")),
        Work::Failover { unit, from } => (Kind::Failover, format!("failover of {unit} from {from}")),
        Work::ForcePromote { unit, to } => {
            (Kind::Failover, format!("promotion of {unit} in {to} without proof"))
        }
        Work::RunAlone { unit } => (Kind::Failover, format!("{unit} acknowledges alone")),
        Work::Restore { .. } | Work::Recover { .. } => (Kind::Drill, "the store was put back".to_owned()),
    };
    // A failover begins when the home was last heard, not when that was noticed.
    let began = match kind {
        Kind::Failover => seen.home_heard.map_or(first, |heard| heard.min(first)),
        Kind::Move | Kind::Drill => first,
    };
    let outcome = match operation.status.state {
        OperationState::Succeeded => Outcome::Succeeded,
        _ => Outcome::Failed,
    };
    let conclusion = steps.last().map_or_else(String::new, |step| step.reason.clone());
    let did = |name: &str| steps.iter().any(|step| step.name == name);
    let mut remarks = remarks(kind, outcome, did("forced"), &seen);
    if did("alone") {
        let remark = "What was acknowledged from then on was on no other replica until one was back.";
        remarks.push(remark.to_owned());
    }
    Report {
        format: FORMAT.to_owned(),
        id: operation.name.clone(),
        platform: String::new(),
        kind,
        subject,
        outcome,
        conclusion,
        began,
        ended,
        written: now,
        asked_by: operation.spec.asked_by.clone(),
        approved_by: operation.status.approval.iter().filter_map(|approval| approval.by.clone()).collect(),
        units: part(operation, kind, began, seen).into_iter().collect(),
        rules: rules(kind, steps),
        figures: Vec::new(),
        load: None,
        books: None,
        remarks,
        operations: Vec::new(),
        versions: BTreeMap::new(),
        previous: None,
    }
}

fn remarks(kind: Kind, outcome: Outcome, forced: bool, seen: &Observed) -> Vec<String> {
    let mut remarks = Vec::new();
    if forced {
        remarks
            .push("The promotion was ordered without proof: acknowledged commits may be missing.".to_owned());
    }
    if outcome == Outcome::Succeeded && seen.turns.is_empty() {
        remarks.push("No gateway reported what its clients saw.".to_owned());
    }
    if kind == Kind::Failover && seen.home_heard.is_none() {
        let remark =
            "The home was heard until the failover began, or this control server does not know until when.";
        remarks.push(remark.to_owned());
    }
    remarks
}

/// The safety rules that were looked at. What began has passed all of them; a refusal names the one that spoke against it.
fn rules(kind: Kind, steps: &[Step]) -> Vec<Rule> {
    use safety::Rule as R;
    let rule =
        |rule: R, holds, detail: &str| Rule { name: rule.to_string(), holds, detail: detail.to_owned() };
    let refused = steps.iter().find(|step| step.name == "refused");
    if let Some(step) = refused {
        let (name, why) = step.reason.split_once(": ").unwrap_or(("", &step.reason));
        return vec![Rule { name: name.to_owned(), holds: false, detail: why.to_owned() }];
    }
    let before: &[R] = match kind {
        Kind::Move => &[R::OneOperation, R::TargetReady, R::ServingMinimum, R::Capacity, R::MovesAtOnce],
        Kind::Failover | Kind::Drill => &[R::Capacity, R::Flapping],
    };
    let mut rules: Vec<Rule> =
        before.iter().map(|name| rule(*name, true, "nothing spoke against it when it began")).collect();
    if let Some(decided) = steps.iter().find(|step| step.name.starts_with("promoting")) {
        let forced = steps.iter().find(|step| step.name == "forced");
        rules.push(rule(R::OneHome, true, "the old home could not acknowledge any more when it was decided"));
        rules.push(rule(R::NothingLost, forced.is_none(), &forced.unwrap_or(decided).reason));
    }
    if let Some(alone) = steps.iter().find(|step| step.name == "alone") {
        rules.push(rule(R::NothingLost, false, &alone.reason));
    }
    rules
}

fn part(operation: &Operation, kind: Kind, began: Timestamp, seen: Observed) -> Option<UnitPart> {
    let unit = operation.spec.work.unit()?.clone();
    let steps = &operation.status.steps;
    let epoch = steps.last().map(|step| step.epoch);
    let mut moments: Vec<Moment> = steps.iter().map(|step| of_step(step, kind)).collect();
    if let Some(heard) = seen.home_heard.filter(|_| kind == Kind::Failover) {
        moments.push(moment(heard, Layer::Control, "last heard", "the home's last report".to_owned()));
    }
    moments.extend(databases(steps, &seen, epoch));
    let turns: BTreeMap<_, _> = seen.turns.iter().filter(|(_, turn)| Some(turn.epoch) == epoch).collect();
    for (dc, turn) in &turns {
        let at = |at: Option<Timestamp>, layer, what: &str| {
            at.map(|at| moment(at, layer, what, format!("gateway {dc}")))
        };
        moments.extend(at(turn.routed_at, Layer::Access, "published"));
        moments.extend(at(turn.first_success_at, Layer::Application, "first success"));
    }
    moments.sort_by_key(|moment| moment.at);
    for moment in &mut moments {
        moment.after_ms = ms_between(began, moment.at);
    }
    let recovery_ms = recovery(kind, began, &moments);
    Some(UnitPart {
        unit,
        from: seen.from,
        to: seen.to,
        epoch,
        recovery_ms,
        requests: requests(&turns),
        timeline: moments,
    })
}

fn of_step(step: &Step, kind: Kind) -> Moment {
    let what = match step.name.as_str() {
        "electing" if kind == Kind::Failover => "detected",
        name if name.starts_with("promoting") => "decided",
        name => name,
    };
    moment(step.at, Layer::Control, what, step.reason.clone())
}

/// What the databases did: the first stop of the old home fences it, the first primary of the new epoch is the
/// promotion. A home that is silent is fenced by its lease: then the election itself is the latest moment for it.
fn databases(steps: &[Step], seen: &Observed, epoch: Option<Epoch>) -> Vec<Moment> {
    let Some((first, last)) = steps.first().zip(steps.last()) else { return Vec::new() };
    let within = |at: Timestamp| seen.home_heard.unwrap_or(first.at).min(first.at) <= at && at <= last.at;
    let mut moments = Vec::new();
    let mut fenced = false;
    for SeenMoment { at, dc, state, epoch: of } in seen.moments.iter().filter(|moment| within(moment.at)) {
        let ends = matches!(state.as_str(), "sealed" | "stopped" | "detached");
        let what = if ends && Some(dc) == seen.from.as_ref() && !fenced {
            fenced = true;
            "fenced"
        } else if state == "primary" && *of == epoch {
            "promoted"
        } else {
            state
        };
        let epoch = of.map(|epoch| format!(" under epoch {epoch}")).unwrap_or_default();
        moments.push(moment(*at, Layer::Data, what, format!("{dc}: {state}{epoch}")));
    }
    let decided = steps.iter().find(|step| step.name.starts_with("promoting"));
    if let Some(decided) = decided.filter(|_| !fenced) {
        let detail = "the old home's lease had run out by then at the latest".to_owned();
        moments.push(moment(decided.at, Layer::Data, "fenced", detail));
    }
    moments
}

/// By layer, from when clients began to wait: of a move, when gateways began to hold.
fn recovery(kind: Kind, began: Timestamp, moments: &[Moment]) -> BTreeMap<Layer, f64> {
    let since = match kind {
        Kind::Move => moments.iter().find(|m| m.what.starts_with("holding")).map(|m| m.at),
        Kind::Failover | Kind::Drill => Some(began),
    };
    let Some(since) = since else { return BTreeMap::new() };
    let ends = [
        (Layer::Control, "decided"),
        (Layer::Data, "promoted"),
        (Layer::Access, "published"),
        (Layer::Application, "first success"),
    ];
    let first = |layer, what| moments.iter().find(|m: &&Moment| m.layer == layer && m.what == what);
    let ends = ends.into_iter().filter_map(|(layer, what)| Some((layer, first(layer, what)?.at)));
    ends.map(|(layer, at)| (layer, ms_between(since, at))).collect()
}

fn requests(turns: &BTreeMap<&DcId, &TurnReport>) -> Option<Requests> {
    #[expect(clippy::cast_precision_loss, reason = "holds last seconds")]
    let longest_hold_ms = turns.values().map(|turn| turn.longest_hold_us).max()? as f64 / 1000.0;
    Some(Requests {
        held: turns.values().map(|turn| turn.held).sum(),
        longest_hold_ms,
        failed: turns.values().map(|turn| turn.failed).sum(),
        gateways: u32::try_from(turns.len()).unwrap_or(u32::MAX),
    })
}

fn moment(at: Timestamp, layer: Layer, what: &str, detail: String) -> Moment {
    Moment { at, after_ms: 0.0, layer, what: what.to_owned(), detail }
}

/// Milliseconds from one moment to another, to the microsecond.
fn ms_between(from: Timestamp, to: Timestamp) -> f64 {
    let between: SignedDuration = to.duration_since(from);
    (between.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use Layer::{Access, Application, Control, Data};
    use dujiang_types::operation::{OperationSpec, OperationStatus};
    use dujiang_types::{Resource, Revision, UnitId};

    use crate::fixture::dc;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_000_000 + ms).unwrap()
    }

    fn operation(work: Work, steps: &[(&str, i64, u64)]) -> Operation {
        let step = |&(name, ms, epoch): &(&str, i64, u64)| Step {
            name: name.to_owned(),
            at: at(ms),
            epoch: Epoch(epoch),
            reason: format!("because of {name}"),
        };
        let status = OperationStatus {
            state: OperationState::Succeeded,
            steps: steps.iter().map(step).collect(),
            approval: None,
        };
        Resource {
            kind: dujiang_types::Kind::Operation,
            name: "op-1".to_owned(),
            labels: BTreeMap::new(),
            revision: Revision(1),
            spec: OperationSpec { work, asked_by: "zhang".to_owned() },
            status,
        }
    }

    fn seen(moments: &[(i64, &str, &str, Option<u64>)], turns: &[(&str, i64, i64)]) -> Observed {
        let seen = |&(ms, dc_, state, epoch): &(i64, &str, &str, Option<u64>)| SeenMoment {
            at: at(ms),
            dc: dc(dc_),
            state: state.to_owned(),
            epoch: epoch.map(Epoch),
        };
        let turn = |&(dc_, routed, first): &(&str, i64, i64)| {
            let turn = TurnReport {
                epoch: Epoch(2),
                routed_at: Some(at(routed)),
                first_success_at: Some(at(first)),
                held: 3,
                longest_hold_us: 250_000,
                failed: 1,
            };
            (dc(dc_), turn)
        };
        Observed {
            home_heard: None,
            moments: moments.iter().map(seen).collect(),
            turns: turns.iter().map(turn).collect(),
            from: Some(dc("a")),
            to: Some(dc("b")),
        }
    }

    fn story(report: &Report) -> Vec<(f64, Layer, &str)> {
        report.units[0].timeline.iter().map(|m| (m.after_ms, m.layer, m.what.as_str())).collect()
    }

    #[test]
    fn a_failover_counts_from_when_the_home_was_last_heard() {
        let work = Work::Failover { unit: UnitId::new("unit-1").unwrap(), from: dc("a") };
        let steps = [("electing", 2_600, 2), ("promoting (from a)", 2_700, 2), ("serving", 2_900, 2)];
        let mut seen = seen(
            &[
                (-900, "b", "following", Some(1)),
                (2_650, "b", "detached", Some(2)),
                (2_850, "b", "primary", Some(2)),
            ],
            &[("b", 2_910, 2_950), ("c", 2_920, 2_930)],
        );
        seen.home_heard = Some(at(0));
        let report = report(&operation(work, &steps), seen, at(9_000));
        assert_eq!((report.began, report.ended), (at(0), at(2_900)));
        let expected = [
            (0.0, Control, "last heard"),
            (2_600.0, Control, "detected"),
            (2_650.0, Data, "detached"),
            (2_700.0, Control, "decided"),
            (2_700.0, Data, "fenced"),
            (2_850.0, Data, "promoted"),
            (2_900.0, Control, "serving"),
            (2_910.0, Access, "published"),
            (2_920.0, Access, "published"),
            (2_930.0, Application, "first success"),
            (2_950.0, Application, "first success"),
        ];
        assert_eq!(story(&report), expected);
        let part = &report.units[0];
        let recovery: Vec<_> = part.recovery_ms.iter().map(|(layer, ms)| (*layer, *ms)).collect();
        assert_eq!(
            recovery,
            [(Control, 2_700.0), (Data, 2_850.0), (Access, 2_910.0), (Application, 2_930.0)]
        );
        let requests = part.requests.unwrap();
        assert_eq!((requests.held, requests.failed, requests.gateways), (6, 2, 2));
        assert!((requests.longest_hold_ms - 250.0).abs() < 1e-9);
        assert_eq!(report.remarks, [""; 0]);
    }

    #[test]
    fn a_move_counts_from_when_requests_were_held() {
        let work = Work::Move { unit: UnitId::new("unit-1").unwrap(), to: dc("b") };
        let steps = [
            ("requested", 0, 1),
            ("holding for b", 50, 1),
            ("sealing for b", 80, 1),
            ("promoting (from a)", 200, 2),
            ("serving", 300, 2),
        ];
        let seen = seen(&[(150, "a", "sealed", None), (290, "b", "primary", Some(2))], &[("b", 310, 312)]);
        let report = report(&operation(work, &steps), seen, at(5_000));
        assert!(story(&report).contains(&(150.0, Layer::Data, "fenced")));
        assert!((report.units[0].recovery_ms[&Layer::Application] - 262.0).abs() < 1e-9);
        let names: Vec<&str> =
            report.rules.iter().filter(|rule| rule.holds).map(|rule| rule.name.as_str()).collect();
        assert!(names.contains(&"capacity") && names.contains(&"nothing-lost"), "{:?}", report.rules);
        assert_eq!((report.kind, report.outcome), (Kind::Move, Outcome::Succeeded));
    }

    #[test]
    fn a_refusal_names_its_rule() {
        let work = Work::Move { unit: UnitId::new("unit-1").unwrap(), to: dc("b") };
        let mut operation = operation(work, &[("requested", 0, 1), ("refused", 5, 1)]);
        operation.status.state = OperationState::Failed;
        operation.status.steps[1].reason = "capacity: b has 3 MiB of disk free".to_owned();
        let report = report(&operation, Observed::default(), at(9_000));
        let expected =
            Rule { name: "capacity".into(), holds: false, detail: "b has 3 MiB of disk free".into() };
        assert_eq!((report.outcome, report.rules), (Outcome::Failed, vec![expected]));
    }

    #[test]
    fn what_nobody_observed_is_said_to_be_so() {
        let work = Work::Failover { unit: UnitId::new("unit-1").unwrap(), from: dc("a") };
        let steps =
            [("electing", 0, 2), ("forced", 10, 2), ("promoting (from a)", 20, 2), ("serving", 30, 2)];
        let report = report(&operation(work, &steps), Observed::default(), at(9_000));
        assert_eq!(report.remarks.len(), 3, "{:?}", report.remarks);
        let proof = report.rules.iter().find(|rule| rule.name == "nothing-lost").unwrap();
        assert!(!proof.holds && proof.detail == "because of forced", "{proof:?}");
        assert_eq!(report.units[0].requests, None);
    }
}
