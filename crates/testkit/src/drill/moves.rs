//! Planned moves of a unit, there and back, under load.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use dujiang_types::operation::OperationState;
use dujiang_types::{DcId, UnitId};
use serde::Serialize;
use tokio::time::Instant;

use super::{DrillError, Ground, MOVE_HOLD_MAX, Options};
use crate::journal::{self, JournalError, Line, Outcome};
use crate::load::{Summary, is_failed_request};
use crate::platform::Platform;
use crate::status::{Control, Goal};
use crate::verify;

/// A move is over within a second or two, whether it succeeds or not; its phases have bounds of their own.
const MOVE_TIMEOUT: Duration = Duration::from_secs(60);
/// A move that cannot be drained within its budget is called off, and nothing has happened; so often it is asked for
/// again before the drill gives up.
const CALLED_OFF_MAX: u32 = 5;
/// Between two looks at an operation.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// For the sync set to be whole again between two moves.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(60);

/// What one move looked like to clients of the unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MoveOutcome {
    /// Home before.
    pub from: DcId,
    /// Home after.
    pub to: DcId,
    /// From asking for it until it was done.
    pub took_ms: f64,
    /// Longest time a payment took that was under way during the move.
    pub longest_hold_ms: f64,
    /// Longest time between two payments acknowledged one after the other, during the move.
    pub longest_gap_ms: f64,
    /// Failed requests during the move, of any unit.
    pub failed_requests: u64,
    /// How often it was called off before it succeeded.
    pub called_off: u32,
}

/// What the moves showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MovesReport {
    /// The unit moved.
    pub unit: UnitId,
    /// How many moves were asked for; fewer were made if the drill was stopped.
    pub asked_for: u32,
    /// One by one.
    pub moves: Vec<MoveOutcome>,
    /// Median of the longest holds.
    pub median_hold_ms: f64,
    /// What the median may be.
    pub hold_limit_ms: f64,
    /// What the load saw in all.
    pub load: Summary,
    /// What the checker found.
    pub books: verify::Report,
}

impl MovesReport {
    /// True if nothing was lost, doubled or invented, and all moves were made.
    pub fn is_correct(&self) -> bool {
        self.books.is_clean() && self.moves.len() == self.asked_for as usize
    }

    /// True if no request failed and the holds are within their limit, too.
    pub fn is_within_limits(&self) -> bool {
        let failed = self.moves.iter().any(|outcome| outcome.failed_requests > 0);
        self.is_correct() && !failed && self.median_hold_ms <= self.hold_limit_ms
    }
}

/// A move and when it happened, in microseconds of the load's clock.
struct Moved {
    from: DcId,
    to: DcId,
    asked_us: u64,
    done_us: u64,
    called_off: u32,
}

/// Moves a unit to each of its other data centers in turn, `count` times in all, under load; then checks everything.
pub async fn moves(
    platform: Platform,
    unit: &UnitId,
    count: u32,
    options: Options,
    mut say: impl FnMut(&str),
) -> Result<MovesReport, DrillError> {
    let places = platform.units.get(unit).ok_or_else(|| DrillError::NoSuch(format!("unit {unit}")))?;
    let targets: Vec<DcId> = places.replicas.keys().cloned().collect();
    let ground = Ground::prepare(platform, options, &mut say).await?;
    let mut home = ground.before.units[unit].unit.status.home.clone();
    let mut moved = Vec::new();
    // A move that has begun is carried to its end: it takes a second, and half a move helps nobody.
    for number in (1..=count).take_while(|_| !ground.options.stop.is_pressed()) {
        let at = targets.iter().position(|target| *target == home).unwrap_or_default();
        let to = targets[(at + 1) % targets.len()].clone();
        say(&format!("move {number} of {count}: {unit} from {home} to {to}"));
        let asked_us = ground.load.now_us();
        let mut called_off = 0;
        while let Err(error) = carry_out(&ground.control, unit, &to).await {
            called_off += 1;
            if called_off > CALLED_OFF_MAX {
                return Err(error);
            }
            say(&error.to_string());
            ground.pause().await;
        }
        let done_us = ground.load.now_us();
        moved.push(Moved { from: home, to: to.clone(), asked_us, done_us, called_off });
        home = to;
        let whole =
            ground.control.wait(Goal::Whole, WHOLE_TIMEOUT, |missing| say(&format!("waiting: {missing}")));
        whole.await.map_err(DrillError::NotReady)?;
        ground.pause().await;
    }
    let path = ground.options.journal.clone();
    let (load, books) = ground.settle(&mut say).await?;
    let seen = outcomes(&path, &load.run, unit, &moved)?;
    let mut holds: Vec<f64> = seen.iter().map(|outcome| outcome.longest_hold_ms).collect();
    let hold_limit_ms = MOVE_HOLD_MAX.as_secs_f64() * 1000.0;
    Ok(MovesReport {
        unit: unit.clone(),
        asked_for: count,
        moves: seen,
        median_hold_ms: median(&mut holds),
        hold_limit_ms,
        load,
        books,
    })
}

async fn carry_out(control: &Control, unit: &UnitId, to: &DcId) -> Result<(), DrillError> {
    let failed = |why: String| DrillError::Move { unit: unit.clone(), to: to.clone(), why };
    let name = control.ask_move(unit, to).await.map_err(|e| failed(e.to_string()))?.name;
    let deadline = Instant::now() + MOVE_TIMEOUT;
    loop {
        // The control plane may be restarted in the middle; the operation goes on.
        if let Ok(operation) = control.operation(&name).await {
            let why = || operation.status.steps.last().map(|step| step.reason.clone()).unwrap_or_default();
            match operation.status.state {
                OperationState::Succeeded => return Ok(()),
                OperationState::Failed => return Err(failed(why())),
                OperationState::Awaiting | OperationState::Pending | OperationState::Running => {}
            }
        }
        if Instant::now() > deadline {
            return Err(failed(format!("it is not over after {} s", MOVE_TIMEOUT.as_secs())));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What clients saw of each move, from the journal.
fn outcomes(
    path: &Path,
    run: &str,
    unit: &UnitId,
    moved: &[Moved],
) -> Result<Vec<MoveOutcome>, JournalError> {
    let ms = |us: u64| Duration::from_micros(us).as_secs_f64() * 1000.0;
    let mut outcomes: Vec<_> = moved
        .iter()
        .map(|moved| MoveOutcome {
            from: moved.from.clone(),
            to: moved.to.clone(),
            took_ms: ms(moved.done_us - moved.asked_us),
            longest_hold_ms: 0.0,
            longest_gap_ms: 0.0,
            failed_requests: 0,
            called_off: moved.called_off,
        })
        .collect();
    // By key: when a payment of the unit was first sent.
    let mut payments = HashMap::new();
    let mut last_us = None::<u64>;
    journal::scan(path, |line| match line {
        Line::Sent(sent) if sent.key.starts_with(run) && sent.unit == *unit && sent.request.moves_money() => {
            payments.entry(sent.key).or_insert(sent.at_us);
        }
        Line::Ended(ended) if ended.key.starts_with(run) => {
            let paid = matches!(ended.outcome, Outcome::Acknowledged(_));
            let payment = payments.get(&ended.key).copied().filter(|_| paid);
            let gap_from = payment.and(last_us).unwrap_or(ended.at_us);
            for (moved, outcome) in moved.iter().zip(&mut outcomes) {
                let overlaps = |from: u64| from <= moved.done_us && ended.at_us >= moved.asked_us;
                if overlaps(ended.sent_us) && is_failed_request(&ended.outcome) {
                    outcome.failed_requests += 1;
                }
                if let Some(sent_us) = payment.filter(|sent_us| overlaps(*sent_us)) {
                    outcome.longest_hold_ms =
                        outcome.longest_hold_ms.max(ms(ended.at_us.saturating_sub(sent_us)));
                }
                if overlaps(gap_from) {
                    outcome.longest_gap_ms =
                        outcome.longest_gap_ms.max(ms(ended.at_us.saturating_sub(gap_from)));
                }
            }
            if payment.is_some() {
                last_us = last_us.max(Some(ended.at_us));
            }
        }
        Line::Began(_) | Line::Sent(_) | Line::Ended(_) => {}
    })?;
    Ok(outcomes)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        len if len % 2 == 1 => values[len / 2],
        len => f64::midpoint(values[len / 2 - 1], values[len / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Ended, JournalWriter, Receipt, Sent};
    use crate::request::Request;
    use dujiang_types::{Currency, Money};
    use jiff::Timestamp;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&mut [4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&mut []).abs() < f64::EPSILON);
    }

    #[test]
    fn a_hold_belongs_to_the_move_it_overlaps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let journal = JournalWriter::open(&path, "r", 1).unwrap();
        let unit = UnitId::new("unit-1").unwrap();
        let pay = |number: u32, times_ms: (u64, u64), outcome: Outcome| {
            let (key, at) = (format!("r-{number}"), Timestamp::UNIX_EPOCH);
            let request = Request::Deposit { account: "1".into(), amount: Money::new(1, Currency::CNY) };
            let (sent_us, at_us) = (times_ms.0 * 1000, times_ms.1 * 1000);
            let sent = Sent { key: key.clone(), attempt: 1, request, unit: unit.clone(), at, at_us: sent_us };
            journal.write(&Line::Sent(sent)).unwrap();
            let (gateway, passed_over, unit) = (None, vec![], unit.clone());
            let ended = Ended { key, attempt: 1, gateway, passed_over, unit, at, sent_us, at_us, outcome };
            journal.write(&Line::Ended(ended)).unwrap();
        };
        let paid = || Outcome::Acknowledged(Receipt::default());
        pay(0, (0, 900), paid());
        pay(1, (990, 995), paid());
        pay(2, (1_010, 1_310), paid());
        pay(3, (1_050, 1_315), paid());
        pay(4, (5_000, 5_100), Outcome::Unknown { why: "reset".into() });
        let dc = |name: &str| DcId::new(name).unwrap();
        let moved =
            |asked, done| Moved { from: dc("a"), to: dc("b"), asked_us: asked, done_us: done, called_off: 0 };
        let moved = [moved(1_000_000, 1_300_000), moved(5_050_000, 5_200_000)];
        let outcomes = outcomes(&path, "r", &unit, &moved).unwrap();
        assert!((outcomes[0].longest_hold_ms - 300.0).abs() < 0.1, "{outcomes:?}");
        assert!((outcomes[0].longest_gap_ms - 315.0).abs() < 0.1, "{outcomes:?}");
        assert_eq!((outcomes[0].failed_requests, outcomes[1].failed_requests), (0, 1));
        assert!(outcomes[1].longest_hold_ms < 0.1);
    }
}
