//! The chart of accounts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;

/// Digits of an account of the standard; it is a heading here, under which others are booked.
const HEADING_DIGITS: usize = 4;
/// Digits of an account that is booked under.
const POSTING_DIGITS: usize = 6;
/// Most accounts of a chart: every heading with its hundred.
pub const ACCOUNTS_MAX: usize = 10_000;

/// Debit or credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Left.
    Debit,
    /// Right.
    Credit,
}

/// A general ledger code: four digits for a heading, six for an account that is booked under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Code(u32);

impl Code {
    /// Reads a code.
    pub fn parse(text: &str) -> Result<Self, ChartError> {
        let digits = text.len() == HEADING_DIGITS || text.len() == POSTING_DIGITS;
        let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        match text.parse() {
            Ok(number) if digits && plain => Ok(Self(number)),
            _ => Err(ChartError::Code(text.chars().take(POSTING_DIGITS + 2).collect())),
        }
    }

    /// The heading above; none above a heading.
    pub fn parent(self) -> Option<Self> {
        self.is_posting().then_some(Self(self.0 / 100))
    }

    /// True for accounts that are booked under.
    pub fn is_posting(self) -> bool {
        self.0 >= 100_000
    }
}

impl TryFrom<String> for Code {
    type Error = ChartError;

    fn try_from(text: String) -> Result<Self, ChartError> {
        Self::parse(&text)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What kind of account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// What the bank has; begins with 1.
    Asset,
    /// What it owes; begins with 2.
    Liability,
    /// Clearing, on either side; begins with 3.
    Common,
    /// What is its members'; begins with 4.
    Equity,
    /// What it earns; begins with 6.
    Income,
    /// What it spends; begins with 6, too.
    Expense,
}

impl Class {
    fn first_digit(self) -> u32 {
        match self {
            Self::Asset => 1,
            Self::Liability => 2,
            Self::Common => 3,
            Self::Equity => 4,
            Self::Income | Self::Expense => 6,
        }
    }
}

/// On which side an account's balance stands when all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normal {
    /// Debit.
    Debit,
    /// Credit.
    Credit,
    /// On either.
    Either,
}

impl Normal {
    /// True if a balance may stand there; `balance` is above zero for debit.
    pub fn fits(self, balance: i128) -> bool {
        match self {
            Self::Debit => balance >= 0,
            Self::Credit => balance <= 0,
            Self::Either => true,
        }
    }
}

/// What the bank needs an account for, whatever its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Cash at the tellers.
    Cash,
    /// Money that nobody can be credited with yet.
    Suspense,
    /// Sent to another unit, not yet arrived.
    InTransit,
    /// Between branches of a member.
    Interbranch,
    /// Between members.
    Intermember,
    /// With payment systems.
    Clearing,
    /// Fees for payments.
    FeeIncome,
}

impl Purpose {
    /// All of them: a chart has one account for each.
    pub const ALL: [Self; 7] = [
        Self::Cash,
        Self::Suspense,
        Self::InTransit,
        Self::Interbranch,
        Self::Intermember,
        Self::Clearing,
        Self::FeeIncome,
    ];
}

/// An account of the chart.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Its code.
    pub code: Code,
    /// What kind.
    pub class: Class,
    /// Where its balance stands.
    pub normal: Normal,
    /// As the standard calls it.
    pub name: String,
    /// In English.
    pub english: String,
    /// What the bank needs it for.
    #[serde(default)]
    pub purpose: Option<Purpose>,
}

/// A chart that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chart {
    accounts: BTreeMap<Code, Account>,
    purposes: BTreeMap<Purpose, Code>,
}

/// What is wrong with a chart.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// Not a code.
    #[error("{0:?} is no code: four digits for a heading, six for an account")]
    Code(String),
    /// Not the form of a chart.
    #[error("the chart cannot be read")]
    Form(#[source] serde_json::Error),
    /// Twice.
    #[error("{0} is there twice")]
    Twice(Code),
    /// Without its heading.
    #[error("{0} has no heading {1}")]
    NoParent(Code, Code),
    /// A heading without accounts: nothing can be booked under it.
    #[error("heading {0} has no account")]
    NoChild(Code),
    /// Another class than its first digit or its heading has.
    #[error("{0} is of another class than its first digit or its heading says")]
    Class(Code),
    /// Another normal balance than its heading.
    #[error("{0} has its balance on another side than its heading")]
    Normal(Code),
    /// A name that is not there.
    #[error("{0} has no name")]
    Name(Code),
    /// A purpose that no account or more than one has, or a heading.
    #[error("{0:?} must be the purpose of exactly one account that is booked under")]
    Purpose(Purpose),
    /// Too many.
    #[error("a chart has at most {ACCOUNTS_MAX} accounts")]
    TooMany,
}

impl Chart {
    /// The chart that is compiled in.
    pub fn standard() -> Result<Self, ChartError> {
        Self::parse(include_str!("../data/chart.json"))
    }

    /// Reads and validates a chart.
    pub fn parse(json: &str) -> Result<Self, ChartError> {
        Self::new(serde_json::from_str(json).map_err(ChartError::Form)?)
    }

    /// Validates a chart.
    pub fn new(list: Vec<Account>) -> Result<Self, ChartError> {
        if list.len() > ACCOUNTS_MAX {
            return Err(ChartError::TooMany);
        }
        let (mut accounts, mut purposes) = (BTreeMap::new(), BTreeMap::new());
        for account in list {
            let code = account.code;
            if let Some(purpose) = account.purpose
                && (!code.is_posting() || purposes.insert(purpose, code).is_some())
            {
                return Err(ChartError::Purpose(purpose));
            }
            if accounts.insert(code, account).is_some() {
                return Err(ChartError::Twice(code));
            }
        }
        let chart = Self { accounts, purposes };
        chart.check()?;
        Ok(chart)
    }

    fn check(&self) -> Result<(), ChartError> {
        let with_children: BTreeSet<Code> = self.accounts.keys().filter_map(|code| code.parent()).collect();
        for (code, account) in &self.accounts {
            let first = code.parent().unwrap_or(*code).0 / 1000;
            if first != account.class.first_digit() {
                return Err(ChartError::Class(*code));
            }
            if account.name.trim().is_empty() || account.english.trim().is_empty() {
                return Err(ChartError::Name(*code));
            }
            let Some(parent) = code.parent() else {
                if !with_children.contains(code) {
                    return Err(ChartError::NoChild(*code));
                }
                continue;
            };
            let heading = self.accounts.get(&parent).ok_or(ChartError::NoParent(*code, parent))?;
            if heading.class != account.class {
                return Err(ChartError::Class(*code));
            }
            if heading.normal != account.normal {
                return Err(ChartError::Normal(*code));
            }
        }
        match Purpose::ALL.into_iter().find(|purpose| !self.purposes.contains_key(purpose)) {
            Some(purpose) => Err(ChartError::Purpose(purpose)),
            None => Ok(()),
        }
    }

    /// An account or heading.
    pub fn get(&self, code: Code) -> Option<&Account> {
        self.accounts.get(&code)
    }

    /// True if entries may be booked under the code.
    pub fn is_bookable(&self, code: Code) -> bool {
        code.is_posting() && self.accounts.contains_key(&code)
    }

    /// The account for a purpose; every chart has one.
    pub fn for_purpose(&self, purpose: Purpose) -> Code {
        self.purposes[&purpose]
    }

    /// All accounts and headings, by code.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }
}
