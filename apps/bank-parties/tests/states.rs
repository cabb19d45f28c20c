//! The tables of `README.md` are what the code does, cell by cell; and what blocks do over time.

use std::collections::BTreeMap;

use dujiang_bank_parties::state::{
    AccountState, Act, Block, BlockReason, BlockScope, Life, PartyAct, PartyState, PartyStep, Rest,
    StateRefusal, Step,
};
use dujiang_types::{Currency, Money};
use jiff::civil::{Date, date};
use proptest::prelude::*;

const TODAY: Date = date(2026, 11, 23);
const README: &str = include_str!("../README.md");

fn yuan(minor: i64) -> Money {
    Money::new(minor, Currency::CNY)
}

const NOTHING: Rest = Rest { balance: Money { minor: 0, currency: Currency::CNY }, under_way: false };

/// The cells of a table by row and column.
fn table(mark: &str) -> BTreeMap<(String, String), String> {
    let (_, rest) = README.split_once(&format!("<!-- {mark}")).expect(mark);
    let rows =
        rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect::<Vec<_>>();
    let rows: Vec<_> = rows.map(cells).collect();
    let mut table = BTreeMap::new();
    for row in &rows[2..] {
        for (column, cell) in rows[0].iter().zip(row).skip(1) {
            table.insert((row[0].clone(), column.clone()), cell.clone());
        }
    }
    table
}

fn yes(permitted: bool) -> String {
    if permitted { "yes" } else { "no" }.to_owned()
}

fn block(id: u32, scope: BlockScope) -> Block {
    Block {
        id,
        scope,
        reason: BlockReason::Bank,
        note: "疑似诈骗".into(),
        amount: None,
        from: TODAY,
        until: None,
    }
}

#[test]
fn the_table_of_accounts_is_what_the_code_permits() {
    let mut expected = BTreeMap::new();
    for act in Act::ALL {
        for life in Life::ALL {
            let state = AccountState::stored(life, Vec::new());
            let permitted = state.permits(act, TODAY).is_ok();
            expected.insert((life.name().to_owned(), act.name().to_owned()), yes(permitted));
        }
        for scope in BlockScope::ALL {
            let state = AccountState::stored(Life::Active, vec![block(1, scope)]);
            let row = format!("active, {}", scope.name());
            expected.insert((row, act.name().to_owned()), yes(state.permits(act, TODAY).is_ok()));
        }
    }
    assert_eq!(table("account-table"), expected);
}

#[test]
fn life_and_blocks_both_have_to_permit() {
    for life in Life::ALL {
        for scope in BlockScope::ALL {
            for act in Act::ALL {
                let state = AccountState::stored(life, vec![block(1, scope)]);
                let permitted = life.permits(act) && !scope.forbids(act);
                assert_eq!(state.permits(act, TODAY).is_ok(), permitted, "{life:?} {scope:?} {act:?}");
            }
        }
    }
}

#[test]
fn the_table_of_lives_is_where_the_steps_lead() {
    let mut expected = BTreeMap::new();
    for life in Life::ALL {
        for step in Step::ALL {
            let mut state = AccountState::stored(life, Vec::new());
            let cell = match state.step(step, NOTHING, TODAY) {
                Ok(()) => state.life().name(),
                Err(refusal) => {
                    assert_eq!((refusal, state.life()), (StateRefusal::Step(life, step), life));
                    "-"
                }
            };
            expected.insert((life.name().to_owned(), step.name().to_owned()), cell.to_owned());
        }
    }
    assert_eq!(table("life-table"), expected);
}

#[test]
fn the_table_of_parties_is_what_the_code_permits() {
    let mut expected = BTreeMap::new();
    for state in PartyState::ALL {
        let mut cell = |name: &str, act| {
            expected.insert((state.name().to_owned(), name.to_owned()), yes(state.permits(act)));
        };
        cell("open", PartyAct::Open);
        cell("amend", PartyAct::Amend);
        for act in Act::ALL {
            cell(act.name(), PartyAct::Account(act));
        }
    }
    assert_eq!(table("party-table"), expected);
}

#[test]
fn a_party_ends_once_and_comes_back_from_a_suspension_only() {
    use PartyState as S;
    use PartyStep as T;
    let steps = [T::Verify, T::Suspend, T::Resume, T::End, T::Close];
    let allowed = [
        (S::Pending, T::Verify, S::Active),
        (S::Pending, T::Close, S::Closed),
        (S::Active, T::Suspend, S::Suspended),
        (S::Active, T::End, S::Ended),
        (S::Active, T::Close, S::Closed),
        (S::Suspended, T::Resume, S::Active),
        (S::Suspended, T::End, S::Ended),
        (S::Ended, T::Close, S::Closed),
    ];
    for state in S::ALL {
        for step in steps {
            let wanted = allowed.iter().find(|(s, t, _)| (*s, *t) == (state, step)).map(|(_, _, next)| *next);
            assert_eq!(state.after(step), wanted, "{state:?} {step:?}");
        }
    }
}

#[test]
fn nothing_is_closed_with_something_in_it() {
    let close = |state: &AccountState, rest| state.clone().step(Step::Close, rest, TODAY);
    let state = AccountState::stored(Life::Closing, Vec::new());
    assert_eq!(close(&state, NOTHING), Ok(()));
    for minor in [1, -1] {
        let rest = Rest { balance: yuan(minor), ..NOTHING };
        assert_eq!(close(&state, rest), Err(StateRefusal::Balance(yuan(minor))));
    }
    assert_eq!(close(&state, Rest { under_way: true, ..NOTHING }), Err(StateRefusal::UnderWay));
    let mut blocked = state.clone();
    blocked.block(Block { until: Some(TODAY), ..block(7, BlockScope::Credits) }).unwrap();
    assert_eq!(close(&blocked, NOTHING), Err(StateRefusal::StillBlocked(7)));
    let tomorrow = TODAY.tomorrow().unwrap();
    assert_eq!(blocked.step(Step::Close, NOTHING, tomorrow), Ok(()), "the block has ended by itself");
    assert!(blocked.block(block(8, BlockScope::All)).is_err(), "a closed account is not blocked");
}

#[test]
fn blocks_of_an_amount_keep_that_much_and_add_up() {
    let mut state = AccountState::stored(Life::Active, Vec::new());
    for (id, minor) in [(1, 300), (2, 200)] {
        let court = Block {
            reason: BlockReason::Authority,
            amount: Some(yuan(minor)),
            until: Some(date(2027, 11, 22)),
            note: "(2026)川1425执123号".into(),
            ..block(id, BlockScope::Debits)
        };
        state.block(court).unwrap();
    }
    let take = |minor, day| state.permits_taking(Act::Debit, yuan(minor), yuan(1000), day);
    assert_eq!(take(500, TODAY), Ok(()));
    assert_eq!(take(501, TODAY), Err(StateRefusal::HeldFast(yuan(500))));
    assert_eq!(take(1000, date(2027, 11, 23)), Ok(()), "after the last day");
    assert_eq!(take(1000, date(2026, 11, 22)), Ok(()), "before the first");
    assert!(matches!(state.permits(Act::Closing, TODAY), Err(StateRefusal::Blocked { id: 1, .. })));
    let dollars = Money::new(1, "USD".parse().unwrap());
    assert!(matches!(state.permits_taking(Act::Debit, dollars, dollars, TODAY), Err(StateRefusal::Money(_))));
    assert!(state.lift(1, BlockReason::Bank).is_err(), "the bank does not lift what a court has ordered");
    assert_eq!(state.lift(1, BlockReason::Authority).unwrap().id, 1);
    assert_eq!(state.lift(1, BlockReason::Authority), Err(StateRefusal::NoBlock(1)));
    assert_eq!(state.permits(Act::Debit, TODAY), Ok(Some(yuan(200))));
}

#[test]
fn blocks_that_may_not_be_are_refused() {
    let authority = Block { reason: BlockReason::Authority, ..block(1, BlockScope::Debits) };
    let bad = [
        authority.clone(),
        Block { until: Some(date(2027, 11, 24)), ..authority },
        Block { until: Some(date(2026, 11, 22)), ..block(1, BlockScope::All) },
        Block { amount: Some(yuan(0)), ..block(1, BlockScope::Debits) },
        Block { amount: Some(yuan(1)), ..block(1, BlockScope::All) },
        Block { note: " ".into(), ..block(1, BlockScope::All) },
        Block { note: "x".repeat(141), ..block(1, BlockScope::All) },
    ];
    for block in bad {
        let mut state = AccountState::opened();
        assert!(matches!(state.block(block.clone()), Err(StateRefusal::BadBlock(_))), "{block:?}");
        assert!(state.blocks().is_empty());
    }
    let mut state = AccountState::opened();
    assert!((0..20).all(|id| state.block(block(id, BlockScope::All)).is_ok()));
    assert!(state.block(block(3, BlockScope::All)).is_err());
    assert!(state.block(block(20, BlockScope::All)).is_err());
}

#[test]
fn accounts_without_movement_fall_dormant() {
    let state = AccountState::stored(Life::Active, Vec::new());
    assert!(!state.is_idle(date(2025, 11, 24), TODAY));
    assert!(state.is_idle(date(2025, 11, 23), TODAY));
    assert!(!AccountState::stored(Life::Closing, Vec::new()).is_idle(date(2020, 1, 1), TODAY));
}

proptest! {
    /// Whatever steps and blocks come, money leaves only an account that is active, by no more than what blocks leave free.
    #[test]
    fn what_is_held_fast_never_leaves(
        steps in prop::collection::vec(prop::sample::select(Step::ALL.to_vec()), 0..8),
        held in prop::collection::vec(1..1000_i64, 0..5),
        amount in 1..5000_i64,
        balance in 0..5000_i64,
    ) {
        let mut state = AccountState::opened();
        for step in steps {
            let _ = state.step(step, NOTHING, TODAY);
        }
        for (id, minor) in (0..).zip(&held) {
            let _ = state.block(Block { amount: Some(yuan(*minor)), ..block(id, BlockScope::Debits) });
        }
        let kept: i64 = state.blocks().iter().filter_map(|block| block.amount).map(|amount| amount.minor).sum();
        let taken = state.permits_taking(Act::Debit, yuan(amount), yuan(balance), TODAY).is_ok();
        let free = state.blocks().is_empty() || balance - amount >= kept;
        prop_assert_eq!(taken, state.life() == Life::Active && free);
    }
}
