//! States of accounts and parties, and what each permits.
//!
//! An account's *life* goes from pending to closed. *Blocks* lie upon it, several at a time and each for a time: a court's
//! freeze does not change whether an account is dormant. An act is permitted if the life permits it and no block forbids
//! it. The table is in this crate's `README.md`, and a test holds the two against each other.
//!
//! Sources: People's Bank of China, order No. 5 of 2003 (settlement accounts: dormant after a year without movement,
//! article 56), and notice No. 1 of 2002 (what institutions do when authorities freeze deposits); Supreme People's Court,
//! interpretation of the Civil Procedure Law, article 485 (deposits are frozen for a year at most).

use dujiang_types::{Money, MoneyError};
use jiff::civil::Date;

use crate::party::NAME_CHARS_MAX;

/// Most blocks at a time on one account: freezes queue up behind each other, and nobody has seen twenty.
pub const BLOCKS_MAX: usize = 20;
/// Longest freeze by an authority; it is renewed or ends by itself.
pub const FREEZE_DAYS_MAX: i32 = 366;
/// Without movement for so long a company's account becomes dormant.
pub const DORMANT_AFTER_DAYS: i32 = 365;

/// What can be done with an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// The customer takes money out.
    Debit,
    /// Money comes in.
    Credit,
    /// The bank books interest, to the account or from it.
    Interest,
    /// The bank takes a fee.
    Fee,
    /// The bank takes an entry back that had brought money in.
    ReversalOut,
    /// The bank takes an entry back that had taken money out.
    ReversalIn,
    /// The account is closed, its balance paid out.
    Closing,
}

impl Act {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 7] = [
        Self::Debit,
        Self::Credit,
        Self::Interest,
        Self::Fee,
        Self::ReversalOut,
        Self::ReversalIn,
        Self::Closing,
    ];

    /// As it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debit => "debit",
            Self::Credit => "credit",
            Self::Interest => "interest",
            Self::Fee => "fee",
            Self::ReversalOut => "reversal out",
            Self::ReversalIn => "reversal in",
            Self::Closing => "closing",
        }
    }
}

/// An account's way from opening to closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Life {
    /// Opened, not yet released: documents are being looked at.
    Pending,
    /// In use.
    Active,
    /// Without movement for long; money may come in, and leaves after the customer was seen again.
    Dormant,
    /// Notice is given; interest and fees are settled, then the balance leaves.
    Closing,
    /// Nothing moves any more, for good.
    Closed,
}

impl Life {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Active, Self::Dormant, Self::Closing, Self::Closed];

    /// As it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Dormant => "dormant",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }

    /// What an account in this state permits, blocks aside.
    pub fn permits(self, act: Act) -> bool {
        match self {
            Self::Pending => matches!(act, Act::Closing),
            Self::Active => true,
            Self::Dormant => {
                matches!(act, Act::Credit | Act::Interest | Act::ReversalOut | Act::ReversalIn | Act::Closing)
            }
            Self::Closing => {
                matches!(act, Act::Interest | Act::Fee | Act::ReversalOut | Act::ReversalIn | Act::Closing)
            }
            Self::Closed => false,
        }
    }
}

/// What happens to an account's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Documents are in order: it may be used.
    Release,
    /// Nothing has moved for long.
    FallDormant,
    /// The customer was seen and wants to use it.
    Revive,
    /// The customer gives notice, or the bank does.
    GiveNotice,
    /// The notice is taken back.
    WithdrawNotice,
    /// The balance is nothing, and nothing is under way: it ends.
    Close,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Release, Self::FallDormant, Self::Revive, Self::GiveNotice, Self::WithdrawNotice, Self::Close];

    /// As it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::FallDormant => "fall dormant",
            Self::Revive => "revive",
            Self::GiveNotice => "give notice",
            Self::WithdrawNotice => "withdraw notice",
            Self::Close => "close",
        }
    }
}

/// What a block forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlockScope {
    /// Money leaving; up to an amount, if the block has one.
    Debits,
    /// Money coming in.
    Credits,
    /// Both.
    All,
}

impl BlockScope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Debits, Self::Credits, Self::All];

    /// As it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debits => "blocked for debits",
            Self::Credits => "blocked for credits",
            Self::All => "blocked for all",
        }
    }

    /// True if the block stands against the act; interest that is due to the customer it never stops.
    pub fn forbids(self, act: Act) -> bool {
        match act {
            Act::Interest => false,
            // Paying the balance out is money leaving, whatever the block.
            Act::Closing => true,
            Act::Debit | Act::Fee | Act::ReversalOut => matches!(self, Self::Debits | Self::All),
            Act::Credit | Act::ReversalIn => matches!(self, Self::Credits | Self::All),
        }
    }
}

/// Who blocks, and so who may lift it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockReason {
    /// A court, prosecutor, police or tax office: ends with its term or by the same authority.
    Authority,
    /// The bank: suspicion, or documents that have expired.
    Bank,
    /// The customer: a lost card or book.
    Customer,
}

/// A block upon an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its number, unique on the account.
    pub id: u32,
    /// What it forbids.
    pub scope: BlockScope,
    /// Who wants it.
    pub reason: BlockReason,
    /// The order or note it rests on, 1 to 140 characters.
    pub note: String,
    /// How much of the balance it holds fast; `None` is all of it. For [`BlockScope::Debits`] only.
    pub amount: Option<Money>,
    /// First day.
    pub from: Date,
    /// Last day; an authority's block always has one.
    pub until: Option<Date>,
}

impl Block {
    /// True if it is in force on that day.
    pub fn holds_on(&self, day: Date) -> bool {
        self.from <= day && self.until.is_none_or(|until| day <= until)
    }
}

/// Why something is not done with an account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateRefusal {
    /// The life does not permit the act.
    #[error("the account is {}: no {}", .0.name(), .1.name())]
    Life(Life, Act),
    /// A block forbids the act.
    #[error("the account is {} by block {id}: no {}", scope.name(), act.name())]
    Blocked {
        /// Which block.
        id: u32,
        /// What it forbids.
        scope: BlockScope,
        /// What was wanted.
        act: Act,
    },
    /// Too much would leave: so much of the balance is held fast.
    #[error("{0} of the balance is held fast by blocks")]
    HeldFast(Money),
    /// The life does not go there from here.
    #[error("an account that is {} does not {}", .0.name(), .1.name())]
    Step(Life, Step),
    /// Closing leaves nothing behind.
    #[error("the account still has {0}: settle it first")]
    Balance(Money),
    /// Holds or transfers in transit are under way.
    #[error("something is under way on the account: wait for it")]
    UnderWay,
    /// A block stands.
    #[error("block {0} stands against it")]
    StillBlocked(u32),
    /// A block that may not be.
    #[error("{0}")]
    BadBlock(&'static str),
    /// No such block.
    #[error("there is no block {0}")]
    NoBlock(u32),
    /// An amount of another currency than the account's, or one that cannot be computed.
    #[error(transparent)]
    Money(#[from] MoneyError),
}

/// What closing depends on beside the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// The balance.
    pub balance: Money,
    /// True if holds, unsettled interest or transfers in transit are left.
    pub under_way: bool,
}

/// An account's state: its life and the blocks upon it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountState {
    life: Life,
    blocks: Vec<Block>,
}

impl AccountState {
    /// Of an account that was just opened.
    pub fn opened() -> Self {
        Self { life: Life::Pending, blocks: Vec::new() }
    }

    /// A state as it was stored.
    pub fn stored(life: Life, blocks: Vec<Block>) -> Self {
        Self { life, blocks }
    }

    /// The life.
    pub fn life(&self) -> Life {
        self.life
    }

    /// All blocks, those that are over, too.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Whether an act is permitted on a day, and how much of the balance must stay: `Ok(None)` is without limit,
    /// `Ok(Some(kept))` if blocks hold an amount fast.
    pub fn permits(&self, act: Act, day: Date) -> Result<Option<Money>, StateRefusal> {
        if !self.life.permits(act) {
            return Err(StateRefusal::Life(self.life, act));
        }
        let mut kept: Option<Money> = None;
        for block in self.blocks.iter().filter(|block| block.holds_on(day) && block.scope.forbids(act)) {
            match block.amount {
                Some(amount) if act != Act::Closing => {
                    // Freezes of several authorities add up: each is to find its own amount.
                    kept = Some(match kept {
                        Some(kept) => kept.checked_add(amount)?,
                        None => amount,
                    });
                }
                _ => return Err(StateRefusal::Blocked { id: block.id, scope: block.scope, act }),
            }
        }
        Ok(kept)
    }

    /// Judges an act that takes `amount` from `balance`.
    pub fn permits_taking(
        &self,
        act: Act,
        amount: Money,
        balance: Money,
        day: Date,
    ) -> Result<(), StateRefusal> {
        let Some(kept) = self.permits(act, day)? else { return Ok(()) };
        if balance.checked_sub(amount)?.checked_sub(kept)?.minor < 0 {
            return Err(StateRefusal::HeldFast(kept));
        }
        Ok(())
    }

    /// Takes a step of the account's life.
    pub fn step(&mut self, step: Step, rest: Rest, day: Date) -> Result<(), StateRefusal> {
        let next = match (self.life, step) {
            (Life::Pending, Step::Release)
            | (Life::Dormant, Step::Revive)
            | (Life::Closing, Step::WithdrawNotice) => Life::Active,
            (Life::Active, Step::FallDormant) => Life::Dormant,
            (Life::Active | Life::Dormant, Step::GiveNotice) => Life::Closing,
            (Life::Pending | Life::Closing, Step::Close) => Life::Closed,
            (life, step) => return Err(StateRefusal::Step(life, step)),
        };
        if next == Life::Closed {
            if let Some(block) = self.blocks.iter().find(|block| block.holds_on(day)) {
                return Err(StateRefusal::StillBlocked(block.id));
            }
            if rest.balance.minor != 0 {
                return Err(StateRefusal::Balance(rest.balance));
            }
            if rest.under_way {
                return Err(StateRefusal::UnderWay);
            }
        }
        self.life = next;
        Ok(())
    }

    /// Lays a block upon the account.
    pub fn block(&mut self, block: Block) -> Result<(), StateRefusal> {
        let no = |why| Err(StateRefusal::BadBlock(why));
        if self.life == Life::Closed {
            return no("a closed account has nothing to block");
        }
        if self.blocks.iter().any(|other| other.id == block.id) {
            return no("there is a block of that number");
        }
        if self.blocks.len() >= BLOCKS_MAX {
            return no("the account has as many blocks as it can have");
        }
        let note = block.note.trim();
        if note.is_empty() || note.chars().count() > NAME_CHARS_MAX {
            return no("say in 1 to 140 characters what the block rests on");
        }
        if block.amount.is_some() && block.scope != BlockScope::Debits {
            return no("only a block for debits has an amount");
        }
        if block.amount.is_some_and(|amount| amount.minor <= 0) {
            return no("the amount of a block is above zero");
        }
        match block.until {
            Some(until) if until < block.from => return no("the block ends before it begins"),
            Some(until)
                if block.reason == BlockReason::Authority
                    && (until - block.from).get_days() >= FREEZE_DAYS_MAX =>
            {
                return no("an authority blocks for a year at most, and renews it");
            }
            None if block.reason == BlockReason::Authority => {
                return no("an authority's block has a last day");
            }
            _ => {}
        }
        self.blocks.push(block);
        Ok(())
    }

    /// Lifts a block; only who wants it may: the bank does not lift what a court has ordered.
    pub fn lift(&mut self, id: u32, by: BlockReason) -> Result<Block, StateRefusal> {
        let at = self.blocks.iter().position(|block| block.id == id).ok_or(StateRefusal::NoBlock(id))?;
        if self.blocks[at].reason != by {
            return Err(StateRefusal::BadBlock("a block is lifted by who wanted it"));
        }
        Ok(self.blocks.remove(at))
    }

    /// True if an account without movement since a day falls dormant on another.
    pub fn is_idle(&self, last_movement: Date, day: Date) -> bool {
        self.life == Life::Active && (day - last_movement).get_days() >= DORMANT_AFTER_DAYS
    }
}

/// A party's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartyState {
    /// Known, not yet verified.
    Pending,
    /// A customer.
    Active,
    /// No document holds, or the bank looks into something: what is there stays, nothing leaves.
    Suspended,
    /// Dead, or dissolved: heirs or liquidators come, by way of the bank.
    Ended,
    /// No customer any more.
    Closed,
}

/// What can be done for a party.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartyAct {
    /// A new account or product.
    Open,
    /// An act on one of its accounts.
    Account(Act),
    /// New documents, address, relations.
    Amend,
}

/// What happens to a party.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartyStep {
    /// Documents and relations are complete.
    Verify,
    /// Something is in question.
    Suspend,
    /// The question is answered.
    Resume,
    /// Death or dissolution.
    End,
    /// The last account is closed.
    Close,
}

impl PartyState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Active, Self::Suspended, Self::Ended, Self::Closed];

    /// As it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Ended => "ended",
            Self::Closed => "closed",
        }
    }

    /// What the state permits. Its accounts' own states count besides.
    pub fn permits(self, act: PartyAct) -> bool {
        match (self, act) {
            (Self::Active, _) | (Self::Pending | Self::Suspended, PartyAct::Amend) => true,
            (Self::Suspended, PartyAct::Account(act)) => {
                matches!(act, Act::Credit | Act::Interest | Act::ReversalOut | Act::ReversalIn)
            }
            (Self::Ended, PartyAct::Account(act)) => {
                matches!(act, Act::Interest | Act::ReversalOut | Act::ReversalIn | Act::Closing)
            }
            _ => false,
        }
    }

    /// Where a step leads; `None` if it is not taken from here.
    pub fn after(self, step: PartyStep) -> Option<Self> {
        match (self, step) {
            (Self::Pending, PartyStep::Verify) | (Self::Suspended, PartyStep::Resume) => Some(Self::Active),
            (Self::Active, PartyStep::Suspend) => Some(Self::Suspended),
            (Self::Active | Self::Suspended, PartyStep::End) => Some(Self::Ended),
            (Self::Pending | Self::Active | Self::Ended, PartyStep::Close) => Some(Self::Closed),
            _ => None,
        }
    }
}
