//! Who may do what alone, with a second person, or not at all.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dujiang_bank_controls::limits::{
    Business, Channel, CheckRefusal, Decision, Limits, Officer, Order, Refusal, Role, Rule, Tier, check,
};
use dujiang_bank_parties::{BranchId, MemberId};
use dujiang_types::{Currency, Money};
use proptest::prelude::*;

fn officer(id: &str, role: Role, member: &str, branch: &str) -> Officer {
    let (member, branch) = (MemberId::new(member).unwrap(), BranchId::new(branch).unwrap());
    Officer { id: id.into(), role, member, branch }
}

fn maker(role: Role) -> Officer {
    officer("maker", role, "qingshen", "1")
}

fn order(minor: i64) -> Order {
    Order {
        business: Business::CashWithdrawal,
        channel: Channel::Counter,
        amount: Money::new(minor, Currency::CNY),
        member: MemberId::new("qingshen").unwrap(),
    }
}

fn tier(up_to_minor: i64, maker: Role, alone: Option<Role>, checker: Role) -> Tier {
    Tier { up_to_minor, maker, alone, checker }
}

/// Up to 50,000 yuan alone, up to 500,000 with a senior teller, up to 5,000,000 with a manager, who always needs a second.
fn rule() -> Rule {
    Rule {
        business: Business::CashWithdrawal,
        channel: Channel::Counter,
        currency: Currency::CNY,
        tiers: vec![
            tier(5_000_000, Role::Teller, Some(Role::Teller), Role::SeniorTeller),
            tier(50_000_000, Role::Teller, Some(Role::BranchManager), Role::SeniorTeller),
            tier(500_000_000, Role::SeniorTeller, None, Role::BranchManager),
        ],
        alone_per_day_minor: 20_000_000,
    }
}

#[test]
fn amounts_roles_and_days_decide() {
    let limits = Limits::new(vec![rule()]).unwrap();
    let cases = [
        (Role::Teller, 5_000_000, 0, Decision::Allowed),
        (Role::Teller, 5_000_000, 15_000_000, Decision::Allowed),
        (Role::Teller, 5_000_000, 15_000_001, Decision::NeedsChecker(Role::SeniorTeller)),
        (Role::Teller, 1, i64::MAX, Decision::NeedsChecker(Role::SeniorTeller)),
        (Role::Teller, 5_000_001, 0, Decision::NeedsChecker(Role::SeniorTeller)),
        (Role::BranchManager, 10_000_000, 0, Decision::Allowed),
        (Role::BranchManager, 20_000_001, 0, Decision::NeedsChecker(Role::BranchManager)),
        (Role::Teller, 50_000_001, 0, Decision::Refused(Refusal::RoleTooLow)),
        (Role::SeniorTeller, 50_000_001, 0, Decision::NeedsChecker(Role::BranchManager)),
        (Role::HeadOffice, 500_000_000, 0, Decision::NeedsChecker(Role::HeadOffice)),
        (Role::HeadOffice, 500_000_001, 0, Decision::Refused(Refusal::AboveLimit)),
        (Role::HeadOffice, 0, 0, Decision::Refused(Refusal::Amount)),
        (Role::HeadOffice, -1, 0, Decision::Refused(Refusal::Amount)),
    ];
    for (role, minor, today, expected) in cases {
        assert_eq!(limits.decide(&maker(role), &order(minor), today), expected, "{role:?} {minor} {today}");
    }
    let dollars = Order { amount: Money::new(1, "USD".parse().unwrap()), ..order(1) };
    let by_telephone = Order { channel: Channel::Telephone, ..order(1) };
    let reversal = Order { business: Business::Reversal, ..order(1) };
    for other in [dollars, by_telephone, reversal] {
        assert_eq!(limits.decide(&maker(Role::HeadOffice), &other, 0), Decision::Refused(Refusal::NoRule));
    }
    let foreign = Order { member: MemberId::new("danling").unwrap(), ..order(1) };
    assert_eq!(limits.decide(&maker(Role::Teller), &foreign, 0), Decision::Refused(Refusal::OtherMember));
}

#[test]
fn nobody_checks_their_own_and_not_everybody_checks_others() {
    let maker = maker(Role::SeniorTeller);
    let cases = [
        (officer("b", Role::BranchManager, "qingshen", "1"), Ok(())),
        (officer("b", Role::HeadOffice, "qingshen", "1"), Ok(())),
        (officer("b", Role::HeadOffice, "qingshen", "2"), Ok(())),
        (officer("b", Role::BranchManager, "qingshen", "2"), Err(CheckRefusal::OtherBranch)),
        (officer("b", Role::SeniorTeller, "qingshen", "1"), Err(CheckRefusal::RoleTooLow)),
        (officer("b", Role::HeadOffice, "danling", "1"), Err(CheckRefusal::OtherMember)),
        (officer("maker", Role::HeadOffice, "qingshen", "1"), Err(CheckRefusal::Own)),
    ];
    for (checker, expected) in cases {
        assert_eq!(check(Role::BranchManager, &maker, &checker), expected, "{checker:?}");
    }
    let (manager, senior) = (
        officer("m", Role::BranchManager, "qingshen", "1"),
        officer("s", Role::SeniorTeller, "qingshen", "1"),
    );
    assert_eq!(
        check(Role::SeniorTeller, &manager, &senior),
        Err(CheckRefusal::RoleTooLow),
        "of one's superior"
    );
    assert_eq!(check(Role::Teller, &senior, &officer("t", Role::SeniorTeller, "qingshen", "1")), Ok(()));
}

#[test]
fn rules_that_contradict_themselves_are_refused() {
    let good = rule().tiers;
    let with = |tiers: Vec<Tier>| Rule { tiers, ..rule() };
    let bad = [
        with(vec![]),
        with(vec![good[0]; 13]),
        with(vec![good[1], good[0]]),
        with(vec![good[0], good[0]]),
        with(vec![tier(0, Role::Teller, None, Role::SeniorTeller)]),
        with(vec![tier(1, Role::SeniorTeller, None, Role::Teller)]),
        with(vec![tier(1, Role::SeniorTeller, Some(Role::Teller), Role::SeniorTeller)]),
        // The larger amount would be the easier one.
        with(vec![tier(1, Role::Teller, None, Role::HeadOffice), tier(2, Role::Teller, None, Role::Teller)]),
        with(vec![
            tier(1, Role::Teller, None, Role::Teller),
            tier(2, Role::Teller, Some(Role::Teller), Role::Teller),
        ]),
        Rule { alone_per_day_minor: -1, ..rule() },
    ];
    for rule in bad {
        assert!(Limits::new(vec![rule.clone()]).is_err(), "{rule:?}");
    }
    assert_eq!(Limits::new(vec![rule(), rule()]).unwrap_err().rule, 1);
}

fn role() -> impl Strategy<Value = Role> {
    prop::sample::select(Role::ALL.to_vec())
}

/// How much a decision asks for: more is stricter.
fn strictness(decision: Decision) -> usize {
    match decision {
        Decision::Allowed => 0,
        Decision::NeedsChecker(role) => 1 + role as usize,
        Decision::Refused(_) => 10,
    }
}

proptest! {
    /// Whatever rules are taken: more money is never easier, and a day that went on never makes it easier.
    #[test]
    fn more_is_never_easier(
        tiers in prop::collection::vec((1..1000_i64, role(), prop::option::of(role()), role()), 1..6),
        day in 0..2000_i64,
        maker_role in role(),
        small in 1..1100_i64,
        more in 0..1100_i64,
        today in 0..2000_i64,
        later in 0..2000_i64,
    ) {
        let tiers = tiers.into_iter().map(|(up_to, maker, alone, checker)| tier(up_to, maker, alone, checker)).collect();
        let Ok(limits) = Limits::new(vec![Rule { tiers, alone_per_day_minor: day, ..rule() }]) else {
            return Ok(());
        };
        let strict = |minor, today| strictness(limits.decide(&maker(maker_role), &order(minor), today));
        prop_assert!(strict(small, today) <= strict(small + more, today));
        prop_assert!(strict(small, today) <= strict(small, today + later));
    }
}
