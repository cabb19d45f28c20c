//! What the auditor is given: agreements, entries, and what the bank says they come to.

use dujiang_types::Currency;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// The books of a unit, or of several together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Books {
    /// The last business day that is closed: interest and loans are audited up to its end.
    pub closed_through: Date,
    /// Every account there is or was.
    pub accounts: Vec<Account>,
    /// Every entry, in any order.
    pub entries: Vec<Entry>,
    /// Announced rates.
    pub rates: Vec<PostedRate>,
    /// Up to which entry each closed day was complete.
    pub closings: Vec<Closing>,
    /// What the bank says: balances of accounts at the last entry.
    pub balances: Vec<ClaimedBalance>,
    /// What the bank says: the trial balance at the end of `closed_through`.
    pub trial: Vec<ClaimedLine>,
}

/// In whose books something is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The member credit union.
    pub member: String,
    /// Its branch.
    pub branch: String,
}

/// An account, and what was agreed about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Its number.
    pub account: String,
    /// In whose books.
    pub place: Place,
    /// In which currency.
    pub currency: Currency,
    /// The day it was opened; of a loan the day it was drawn.
    pub opened: Date,
    /// The day it was closed.
    pub closed: Option<Date>,
    /// The lowest balance it may have; not looked at for loans.
    pub limit_minor: i64,
    /// The general ledger code of what is on it.
    pub principal: String,
    /// What it is.
    pub product: Product,
}

/// What an account is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Product {
    /// Bears no interest.
    Plain,
    /// A deposit with interest by the day.
    Deposit(Deposit),
    /// A loan with a schedule.
    Loan(Loan),
}

/// A deposit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deposit {
    /// Code of interest that is owed to the customer.
    pub accrued: String,
    /// How it bears interest.
    pub terms: DepositTerms,
}

/// How a deposit bears interest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepositTerms {
    /// Tiers by balance, the lowest first, which begins at 0.
    pub tiers: Vec<Tier>,
    /// True if each part of the balance earns its own tier's rate, false if all of it earns the highest one's.
    pub marginal: bool,
    /// Which day's rate counts.
    pub fixing: Fixing,
    /// How days are counted.
    pub days: DayCount,
    /// Months and day on which it is settled; no months: never by itself.
    pub settles_in: Vec<i8>,
    /// The day of those months; the last one of a shorter month.
    pub settles_on: i8,
    /// True if what is settled joins the balance the day after; else it is paid elsewhere.
    pub compounds: bool,
    /// True if only whole units of the currency bear interest.
    pub whole_units: bool,
    /// What becomes of what lies between two minor units.
    pub remainder: Remainder,
    /// Tax on what is settled, by the rate of the settlement day.
    pub tax: Option<RateOf>,
}

/// What becomes of what lies between two minor units when interest is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remainder {
    /// It is carried into the next period.
    Carried,
    /// It is dropped.
    Dropped,
}

/// A tier by balance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Its smallest balance in minor units.
    pub from_minor: i64,
    /// Its yearly rate.
    pub rate: RateOf,
}

/// A rate: a percentage as text, or an announced one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateOf {
    /// As `0.35%`.
    Fixed(String),
    /// By name, and a spread as `-0.1%`.
    Posted(String, String),
}

/// Which day's rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fixing {
    /// Each day's.
    EachDay,
    /// The settlement day's; the closing day's when the account is closed.
    SettlementDay,
    /// The opening day's.
    OpeningDay,
}

/// How days are counted, by the 2006 ISDA Definitions, section 4.16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DayCount {
    /// (e).
    #[serde(rename = "ACT/360")]
    Act360,
    /// (d).
    #[serde(rename = "ACT/365F")]
    Act365F,
    /// (f).
    #[serde(rename = "30/360")]
    Thirty360,
    /// (g).
    #[serde(rename = "30E/360")]
    ThirtyE360,
    /// A period of whole months has thirty days for each. For the periods of loans only.
    #[serde(rename = "months")]
    Months,
}

/// A loan with a schedule. It is drawn on the day its account is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loan {
    /// How much was lent.
    pub principal_minor: i64,
    /// The yearly rate, as `4.35%`.
    pub rate: String,
    /// How principal is repaid.
    pub method: Method,
    /// How a period's interest is counted.
    pub days: DayCount,
    /// Months from one due date to the next.
    pub every_months: u16,
    /// Number of instalments.
    pub periods: u16,
    /// By how much the rate is multiplied for what is late, as `1.5`.
    pub penalty_factor: String,
    /// True if interest that is late bears interest, too.
    pub penalty_compounds: bool,
    /// How days of lateness are counted.
    pub penalty_days: DayCount,
    /// Days after the due date within which a payment costs nothing.
    pub grace_days: u16,
    /// Code of interest that is owed by the borrower.
    pub accrued: String,
    /// Code of penalty that is owed by the borrower.
    pub penalty_accrued: String,
    /// Code of the loss allowance.
    pub allowance: String,
    /// Days overdue after which interest is income only when it is paid.
    pub suspended_after_days: u32,
    /// Days overdue after which a loan is of the second, third, fourth and fifth class.
    pub class_after_days: [u32; 4],
    /// What is set aside of what is outstanding in each class, as `2%`.
    pub set_aside: [String; 5],
}

/// How principal is repaid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The same amount every period.
    EqualInstalments,
    /// The same principal every period.
    EqualPrincipal,
    /// All principal with the last.
    Bullet,
}

/// An entry: one line of a posting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number: those of an account rise in the order they were booked.
    pub number: u64,
    /// Which posting it belongs to.
    pub posting: String,
    /// What the posting does.
    pub kind: Kind,
    /// Whose it is; none for the bank's own.
    pub account: Option<String>,
    /// In whose books.
    pub place: Place,
    /// General ledger code.
    pub code: String,
    /// In which currency.
    pub currency: Currency,
    /// Above zero for credit, below for debit.
    pub credit_minor: i64,
    /// The business day it was booked on.
    pub booked_on: Date,
    /// From when it counts for interest.
    pub value_on: Date,
}

/// What a posting does, as far as interest depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Pays settled interest, into the account or elsewhere.
    Interest,
    /// Withholds tax of it.
    Tax,
    /// Pays what a borrower owes.
    Repayment,
    /// Books what has accrued.
    Accrual,
    /// Anything else.
    Other,
}

/// An announced rate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostedRate {
    /// Its name.
    pub name: String,
    /// The first day.
    pub from: Date,
    /// As `0.35%`.
    pub rate: String,
}

/// A business day that was closed: no entry of it may have a higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The day.
    pub day: Date,
    /// The highest number of an entry there was.
    pub last_entry: u64,
}

/// What the bank says is on an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedBalance {
    /// Which.
    pub account: String,
    /// Above zero for credit.
    pub balance_minor: i64,
}

/// What the bank says a code comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedLine {
    /// In whose books.
    pub place: Place,
    /// In which currency.
    pub currency: Currency,
    /// Which code.
    pub code: String,
    /// Sum of debits.
    pub debits_minor: i128,
    /// Sum of credits.
    pub credits_minor: i128,
}
