//! What the loss of a unit's home would cost, as cells of tables.

use dujiang_control::Status;
use dujiang_control::status::UnitView;
use dujiang_types::Tri;
use dujiang_types::exposure::Behind;
use dujiang_types::unit::{Durability, Phase};
use jiff::Timestamp;

use crate::table::{Cell, Table, Tone};
use crate::view;

/// Kept or degraded, and for how long.
pub fn durability(view: &UnitView, now: Timestamp) -> Cell {
    let durability = &view.exposure.durability;
    let age = durability.since.map(|since| format!(" {}", age(now, since))).unwrap_or_default();
    match durability.kept {
        Tri::True => Cell::new("kept", Tone::Good),
        Tri::Unknown => Cell::new("-", Tone::Busy),
        Tri::False if view.unit.spec.durability == Durability::Bounded => Cell::new("bounded", Tone::Busy),
        Tri::False => Cell::new(format!("degraded{age}"), Tone::Bad),
    }
}

/// A line for each unit whose durability is less than it should be.
pub fn degraded(status: &Status) -> impl Iterator<Item = String> {
    let wants_more = |view: &&UnitView| view.unit.spec.durability == Durability::Zero;
    let degraded = status.units.values().filter(wants_more);
    degraded.filter(|view| view.exposure.durability.kept == Tri::False).map(|view| {
        let since =
            view.exposure.durability.since.map(|since| format!(" since {since:.0}")).unwrap_or_default();
        format!("durability of {} is degraded{since}: {}", view.unit.name, view.exposure.durability.reason)
    })
}

/// A line for each unit that fails over again and again, and for each whose failover a rule holds back.
pub fn unsteady(status: &Status) -> impl Iterator<Item = String> {
    let in_a_row = status.units.values().filter_map(|view| {
        let last = view.unit.status.last_failover.as_ref().filter(|last| last.in_a_row > 1)?;
        let (name, count) = (&view.unit.name, last.in_a_row);
        Some(format!(
            "{name} has failed over {count} times in a row, last from {} at {:.0}",
            last.from, last.at
        ))
    });
    let silent = |view: &&UnitView| view.unit.status.phase == Phase::Serving && !view.is_home_heard();
    let held = status.units.values().filter(silent);
    in_a_row.chain(held.map(|view| format!("{}: {}", view.unit.name, view.waiting)))
}

/// What happens if the home is lost now.
pub fn loss_of_home(view: &UnitView) -> Cell {
    let exposure = &view.exposure;
    // Before and between homes the question is what is being waited for.
    if view.unit.status.phase != Phase::Serving {
        return Cell::new(view.waiting.as_str(), view::phase_tone(&view.unit.status.phase));
    }
    let to = exposure.to.as_ref().map(|to| format!("; {to} takes over")).unwrap_or_default();
    match (exposure.automatic, exposure.at_risk_bytes) {
        (true, Some(0)) => Cell::new(format!("nothing is lost{to}"), Tone::Good),
        (true, _) => Cell::new(format!("loses up to {}{to}", risk(exposure.at_risk)), Tone::Busy),
        (false, _) => {
            let risk = risk(exposure.at_risk);
            Cell::new(format!("needs operators, may lose {risk}: {}", exposure.reason), Tone::Bad)
        }
    }
}

fn risk(at_risk: Option<Behind>) -> String {
    at_risk.map_or_else(|| "what is not known".to_owned(), amount)
}

/// `12 KiB, 0.4 s, 31 transfers`.
pub fn amount(behind: Behind) -> String {
    let transfers = behind.transfers.map(|count| format!(", {count} transfers")).unwrap_or_default();
    format!("{}, {}{transfers}", bytes(behind.bytes), seconds(behind.lag_ms))
}

/// A row for each replica that is not at home.
pub fn wide(status: &Status) -> Table {
    let mut table = Table::new(&[
        "UNIT",
        "REPLICA",
        "TAKES OVER",
        "BYTES BEHIND",
        "SECONDS",
        "TRANSFERS",
        "DURABILITY SINCE",
    ]);
    for (name, view) in &status.units {
        let exposure = &view.exposure;
        for dc in view.unit.spec.replicas.iter().filter(|dc| **dc != view.unit.status.home) {
            let behind = exposure.behind.get(dc);
            let tell = |of: fn(&Behind) -> Option<String>| {
                Cell::from(behind.and_then(of).unwrap_or_else(|| "unknown".to_owned()))
            };
            table.row([
                name.as_str().into(),
                dc.as_str().into(),
                if exposure.to.as_ref() == Some(dc) { "yes" } else { "-" }.into(),
                tell(|behind| Some(behind.bytes.to_string())),
                tell(|behind| Some(seconds(behind.lag_ms))),
                tell(|behind| behind.transfers.map(|count| count.to_string())),
                exposure
                    .durability
                    .since
                    .map_or_else(|| "-".to_owned(), |since| format!("{since:.0}"))
                    .into(),
            ]);
        }
    }
    table
}

/// A size, rounded down to a unit.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let step = UNITS.iter().enumerate().rev().find(|(n, _)| count >> (10 * n) > 0);
    let (n, unit) = step.unwrap_or((0, &"B"));
    format!("{} {unit}", count >> (10 * n))
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

/// `40 s`, `12 min`, `3 h`.
fn age(now: Timestamp, since: Timestamp) -> String {
    match now.duration_since(since).as_secs().max(0) {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_down_to_a_unit() {
        let sizes = [0, 1023, 1024, 5 << 20, 3 << 40].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1 KiB", "5 MiB", "3 TiB"]);
    }

    #[test]
    fn what_is_behind_is_told_in_bytes_seconds_and_transfers() {
        let behind = Behind { bytes: 2_048, lag_ms: 1_450, transfers: Some(31) };
        assert_eq!(amount(behind), "2 KiB, 1.4 s, 31 transfers");
        assert_eq!(amount(Behind { transfers: None, ..behind }), "2 KiB, 1.4 s");
    }

    #[test]
    fn ages_are_told_in_the_unit_that_fits() {
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        let ages =
            [(10, 0), (119, 0), (600, 0), (7_200, 0), (0, 50)].map(|(now, since)| age(at(now), at(since)));
        assert_eq!(ages, ["10 s", "119 s", "10 min", "2 h", "0 s"]);
    }
}
