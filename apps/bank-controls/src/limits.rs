//! Tellers' limits: who may do what alone up to which amount, and from where on a second person has to check.

use dujiang_bank_parties::{BranchId, MemberId};
use dujiang_types::{Currency, Money};

/// Most tiers of a rule: more amounts than roles mean nothing.
pub const TIERS_MAX: usize = 12;
/// Most rules: acts times channels times currencies, with room.
pub const RULES_MAX: usize = 1_000;

/// Roles, each above the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Serves customers.
    Teller,
    /// Leads a counter.
    SeniorTeller,
    /// Leads a branch.
    BranchManager,
    /// Operations of the member's head office.
    HeadOffice,
}

impl Role {
    /// All of them, the lowest first.
    pub const ALL: [Self; 4] = [Self::Teller, Self::SeniorTeller, Self::BranchManager, Self::HeadOffice];
}

/// On which way an order comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// The customer stands before the officer.
    Counter,
    /// On paper or by file, nobody is there.
    BackOffice,
    /// By telephone: the caller is recognised by voice and questions.
    Telephone,
}

/// What is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Business {
    /// Cash in.
    CashDeposit,
    /// Cash out.
    CashWithdrawal,
    /// From account to account.
    Transfer,
    /// Taking an entry back.
    Reversal,
    /// Giving a fee or interest back.
    Waiver,
    /// Laying a block upon an account or lifting it; the amount is what it holds fast.
    Block,
}

/// Somebody who works for the bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Officer {
    /// Number.
    pub id: String,
    /// Role.
    pub role: Role,
    /// For whom.
    pub member: MemberId,
    /// Where.
    pub branch: BranchId,
}

/// Up to an amount: who may enter an order, who may do it alone, who checks the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// Up to this amount, included, in minor units.
    pub up_to_minor: i64,
    /// The lowest role that may enter it.
    pub maker: Role,
    /// From this role on nobody has to check; `None`: somebody always has to.
    pub alone: Option<Role>,
    /// The lowest role that may check.
    pub checker: Role,
}

/// What holds for one business on one channel in one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which business.
    pub business: Business,
    /// On which channel.
    pub channel: Channel,
    /// In which currency.
    pub currency: Currency,
    /// By amount, the lowest first.
    pub tiers: Vec<Tier>,
    /// What one officer may do alone in a day, in minor units: many small orders are one large one.
    pub alone_per_day_minor: i64,
}

/// Rules that do not contradict themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits(Vec<Rule>);

/// Why rules were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule}: {why}")]
pub struct RuleError {
    /// Which one, from 0.
    pub rule: usize,
    /// What is wrong.
    pub why: &'static str,
}

/// What an officer may do about an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Do it.
    Allowed,
    /// Enter it; somebody else of at least this role has to check it.
    NeedsChecker(Role),
    /// Nothing.
    Refused(Refusal),
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What no rule allows is not allowed.
    #[error("no rule allows this business on this channel in this currency")]
    NoRule,
    /// Zero or less.
    #[error("the amount must be above zero")]
    Amount,
    /// Above the highest tier.
    #[error("the amount is above every limit: head office has to change the rule first")]
    AboveLimit,
    /// The role may not even enter it.
    #[error("the role does not enter orders of this amount")]
    RoleTooLow,
    /// Another member's business.
    #[error("an officer acts for the own member only")]
    OtherMember,
}

/// Why somebody is not the one to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckRefusal {
    /// Nobody checks their own.
    #[error("nobody checks their own order")]
    Own,
    /// The role does not suffice.
    #[error("this amount is checked by a higher role")]
    RoleTooLow,
    /// Another member's business.
    #[error("an officer checks for the own member only")]
    OtherMember,
    /// Up to branch managers one checks in the own branch only.
    #[error("below head office one checks in the own branch only")]
    OtherBranch,
}

/// An order that is to be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What.
    pub business: Business,
    /// On which way it came.
    pub channel: Channel,
    /// How much.
    pub amount: Money,
    /// In whose books.
    pub member: MemberId,
}

impl Limits {
    /// Checks that rules are complete in themselves and grow stricter with the amount.
    pub fn new(rules: Vec<Rule>) -> Result<Self, RuleError> {
        if rules.len() > RULES_MAX {
            return Err(RuleError { rule: RULES_MAX, why: "there are too many rules" });
        }
        for (n, rule) in rules.iter().enumerate() {
            let same = |other: &&Rule| key(other) == key(rule);
            let why = if rules[..n].iter().any(|other| same(&other)) {
                Some("there is a rule for this business, channel and currency already")
            } else {
                fault_of(rule)
            };
            if let Some(why) = why {
                return Err(RuleError { rule: n, why });
            }
        }
        Ok(Self(rules))
    }

    /// Decides. `alone_today_minor` is what the maker has done alone today of this business, channel and currency.
    pub fn decide(&self, maker: &Officer, order: &Order, alone_today_minor: i64) -> Decision {
        if maker.member != order.member {
            return Decision::Refused(Refusal::OtherMember);
        }
        if order.amount.minor <= 0 {
            return Decision::Refused(Refusal::Amount);
        }
        let wanted = (order.business, order.channel, order.amount.currency);
        let Some(rule) = self.0.iter().find(|rule| key(rule) == wanted) else {
            return Decision::Refused(Refusal::NoRule);
        };
        let Some(tier) = rule.tiers.iter().find(|tier| order.amount.minor <= tier.up_to_minor) else {
            return Decision::Refused(Refusal::AboveLimit);
        };
        if maker.role < tier.maker {
            return Decision::Refused(Refusal::RoleTooLow);
        }
        let today = alone_today_minor.max(0).saturating_add(order.amount.minor);
        if tier.alone.is_some_and(|alone| maker.role >= alone) && today <= rule.alone_per_day_minor {
            Decision::Allowed
        } else {
            // Nobody checks an order of somebody above them.
            Decision::NeedsChecker(tier.checker.max(maker.role))
        }
    }
}

/// Judges who wants to check an order that needs a checker of at least `needed`, and of at least the maker's own role:
/// who depends on the maker does not refuse them.
pub fn check(needed: Role, maker: &Officer, checker: &Officer) -> Result<(), CheckRefusal> {
    if maker.id == checker.id {
        return Err(CheckRefusal::Own);
    }
    if maker.member != checker.member {
        return Err(CheckRefusal::OtherMember);
    }
    if checker.role < needed.max(maker.role) {
        return Err(CheckRefusal::RoleTooLow);
    }
    if checker.role < Role::HeadOffice && maker.branch != checker.branch {
        return Err(CheckRefusal::OtherBranch);
    }
    Ok(())
}

fn key(rule: &Rule) -> (Business, Channel, Currency) {
    (rule.business, rule.channel, rule.currency)
}

fn fault_of(rule: &Rule) -> Option<&'static str> {
    if rule.tiers.is_empty() || rule.tiers.len() > TIERS_MAX {
        return Some("a rule has 1 to 12 tiers");
    }
    if rule.alone_per_day_minor < 0 {
        return Some("what is done alone in a day is not below zero");
    }
    for tier in &rule.tiers {
        if tier.up_to_minor <= 0 {
            return Some("a tier goes up to an amount above zero");
        }
        if tier.checker < tier.maker {
            return Some("who checks has at least the role of who enters");
        }
        if tier.alone.is_some_and(|alone| alone < tier.maker) {
            return Some("who acts alone has at least the role of who enters");
        }
    }
    for pair in rule.tiers.windows(2) {
        let [low, high] = pair else { continue };
        if high.up_to_minor <= low.up_to_minor {
            return Some("tiers rise in amount");
        }
        // An amount that is larger is never easier to move.
        let alone = |tier: &Tier| tier.alone.map_or(usize::MAX, |role| role as usize);
        if high.maker < low.maker || high.checker < low.checker || alone(high) < alone(low) {
            return Some("tiers grow stricter with the amount");
        }
    }
    None
}
