//! `pacs.008.001.08`: customers' credit transfers from bank to bank.

mod read;
mod rules;
mod table;
mod write;

use dujiang_types::Money;
use jiff::civil::Date;

use crate::common::{Account, Agent, ChargeBearer, Coded, Party, PaymentType};
use crate::fault::Faults;
use crate::moment::Moment;

pub use read::read;
pub use table::SCHEMA;
pub use write::write;

/// The message's namespace.
pub const NAMESPACE: &str = "urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08";
/// The message's name, as answers repeat it.
pub const NAME: &str = "pacs.008.001.08";

/// How banks settle among each other. Cover payments (`COVE`) name reimbursement agents, which this bank has none of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `INDA`: on an account at who is instructed.
    InstructedAgent,
    /// `INGA`: on an account at who instructs.
    InstructingAgent,
    /// `CLRG`: in a clearing system.
    Clearing,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::InstructedAgent, Self::InstructingAgent, Self::Clearing];

    /// The code of the schema.
    pub fn code(self) -> &'static str {
        match self {
            Self::InstructedAgent => "INDA",
            Self::InstructingAgent => "INGA",
            Self::Clearing => "CLRG",
        }
    }
}

/// How this message is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// How.
    pub method: Method,
    /// On which account; not with [`Method::Clearing`].
    pub account: Option<Account>,
    /// In which clearing system; with [`Method::Clearing`] only.
    pub clearing_system: Option<Coded>,
}

/// What a bank on the way took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// How much.
    pub amount: Money,
    /// Who.
    pub agent: Agent,
}

/// How urgently a transfer is settled: `SttlmPrty`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// `URGT`.
    Urgent,
    /// `HIGH`.
    High,
    /// `NORM`.
    Normal,
}

impl Priority {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::High, Self::Normal];

    /// The code of the schema.
    pub fn code(self) -> &'static str {
        match self {
            Self::Urgent => "URGT",
            Self::High => "HIGH",
            Self::Normal => "NORM",
        }
    }
}

/// One transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The instructing bank's number of it, for the next bank.
    pub instruction_id: Option<String>,
    /// The customer's number of it, all the way.
    pub end_to_end_id: String,
    /// The first bank's number of it, all the way.
    pub transaction_id: Option<String>,
    /// Unique over all banks: a version 4 UUID.
    pub uetr: Option<String>,
    /// The clearing system's number of it.
    pub clearing_reference: Option<String>,
    /// What kind of payment, if not as the header says.
    pub payment_type: Option<PaymentType>,
    /// What is settled; above zero.
    pub amount: Money,
    /// When it is settled: as the header or the transfer says.
    pub settled_on: Date,
    /// How urgently.
    pub priority: Option<Priority>,
    /// When the first bank had all it needed.
    pub accepted: Option<Moment>,
    /// What the customer ordered, of the same currency.
    pub instructed: Option<Money>,
    /// Who pays the charges.
    pub charge_bearer: ChargeBearer,
    /// What banks on the way took.
    pub charges: Vec<Charge>,
    /// Who sends it, if the header does not say.
    pub instructing_agent: Option<Agent>,
    /// To whom, if the header does not say.
    pub instructed_agent: Option<Agent>,
    /// A bank in between.
    pub intermediary: Option<Agent>,
    /// On whose behalf.
    pub ultimate_debtor: Option<Party>,
    /// Who asked for it.
    pub initiating_party: Option<Party>,
    /// Who pays.
    pub debtor: Party,
    /// Where from.
    pub debtor_account: Account,
    /// The debtor's bank.
    pub debtor_agent: Agent,
    /// The creditor's bank.
    pub creditor_agent: Agent,
    /// To whom.
    pub creditor: Party,
    /// Where to.
    pub creditor_account: Account,
    /// For whom in the end.
    pub ultimate_creditor: Option<Party>,
    /// What for.
    pub purpose: Option<Coded>,
    /// Lines for the creditor, at most 140 characters each.
    pub remittance: Vec<String>,
}

/// A transfer that is refused, as far as it can be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its place in the message, from 0.
    pub index: usize,
    /// Its numbers, where they can be read.
    pub instruction_id: Option<String>,
    /// Its numbers, where they can be read.
    pub end_to_end_id: Option<String>,
    /// Its numbers, where they can be read.
    pub transaction_id: Option<String>,
    /// What is wrong.
    pub faults: Faults,
}

/// The message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfers {
    /// Its number, of its sender's choice.
    pub message_id: String,
    /// When it was made.
    pub created: Moment,
    /// How it is settled.
    pub settlement: Settlement,
    /// What kind of payments.
    pub payment_type: Option<PaymentType>,
    /// Which bank sends it.
    pub instructing_agent: Option<Agent>,
    /// To which bank.
    pub instructed_agent: Option<Agent>,
    /// The transfers that are in order.
    pub transfers: Vec<Transfer>,
    /// The transfers that are not.
    pub refused: Vec<Refused>,
}
