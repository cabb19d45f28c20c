//! `pain.002.001.10` and `pacs.002.001.10`: what became of a message, transfer by transfer.

mod file;
mod table;

use table::LINE_CHARS_MAX;

use crate::common::{Build, Coded};
use crate::fault::{Fault, Faults};
use crate::moment::Moment;
use crate::schema::Value;
use crate::xml::Element;
use crate::{pacs008, pain001};

pub use file::{read_to_bank, read_to_customer};
pub use table::{BANK_SCHEMA, CUSTOMER_SCHEMA};

/// The namespace of the answer to a customer.
pub const CUSTOMER_NAMESPACE: &str = "urn:iso:std:iso:20022:tech:xsd:pain.002.001.10";
/// The namespace of the answer to a bank.
pub const BANK_NAMESPACE: &str = "urn:iso:std:iso:20022:tech:xsd:pacs.002.001.10";
/// Most faults of a transfer that an answer repeats: it shall stay readable when ten thousand are refused.
const FAULTS_ANSWERED_MAX: usize = 5;
/// What stands for an identifier that could not be read.
const UNKNOWN: &str = "NOTPROVIDED";

/// How far a transfer, or a group of them, has come. Codes of ISO 20022's external sets for status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `RCVD`: received, not yet looked at.
    Received,
    /// `PDNG`: waits for something, such as an approval.
    Pending,
    /// `ACCP`: looked at and in order.
    Accepted,
    /// `ACSP`: in order and under way.
    InProcess,
    /// `ACSC`: booked at the debtor; final.
    Settled,
    /// `PART`: of a group, some are refused and some are not.
    Partly,
    /// `RJCT`: refused; final.
    Rejected,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Received,
        Self::Pending,
        Self::Accepted,
        Self::InProcess,
        Self::Settled,
        Self::Partly,
        Self::Rejected,
    ];

    /// The code of the external code set.
    pub fn code(self) -> &'static str {
        match self {
            Self::Received => "RCVD",
            Self::Pending => "PDNG",
            Self::Accepted => "ACCP",
            Self::InProcess => "ACSP",
            Self::Settled => "ACSC",
            Self::Partly => "PART",
            Self::Rejected => "RJCT",
        }
    }

    fn read(parent: &Element, name: &str) -> Option<Self> {
        let code = parent.text_at(&[name])?;
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// What can be said of a group whose transfers have these: their common one; [`Self::Partly`] if only some are
    /// refused; else the one that is least far.
    fn of_group(all: impl IntoIterator<Item = Self>) -> Option<Self> {
        all.into_iter().reduce(|group, status| match (group, status) {
            (a, b) if a == b => a,
            (Self::Partly | Self::Rejected, _) | (_, Self::Partly | Self::Rejected) => Self::Partly,
            (a, b) => Self::ALL.into_iter().find(|s| *s == a || *s == b).unwrap_or(a),
        })
    }
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// A code of `ExternalStatusReason1Code`, such as `AM04` for funds that do not suffice.
    pub code: Option<Coded>,
    /// In words; lines of at most 105 characters.
    pub lines: Vec<String>,
}

impl Reason {
    /// A reason by its code, with words that are cut into lines.
    pub fn new(code: impl Into<String>, words: &str) -> Self {
        let letters: Vec<char> = words.chars().collect();
        let lines = letters.chunks(LINE_CHARS_MAX).map(|line| line.iter().collect::<String>());
        let lines = lines.filter(|line| !line.trim().is_empty()).collect();
        Self { code: Some(Coded::Code(code.into())), lines }
    }

    fn of(faults: &Faults) -> Vec<Self> {
        let reason = |fault: &Fault| {
            let words = format!("{} {}: {}; {}", fault.path, fault.code, fault.detail, fault.code.remedy());
            Self::new(fault.code.reason(), &words)
        };
        faults.told().iter().take(FAULTS_ANSWERED_MAX).map(reason).collect()
    }

    fn read(element: &Element) -> Result<Self, Fault> {
        Ok(Self {
            code: element.child("Rsn").map(Coded::read).transpose()?,
            lines: element.each("AddtlInf").map(|line| line.text.clone()).collect(),
        })
    }

    fn write(&self) -> Element {
        Build::new("StsRsnInf")
            .maybe(self.code.as_ref().map(|code| code.write("Rsn")))
            .all(self.lines.iter().map(|line| Element::leaf("AddtlInf", line)))
            .done()
    }
}

/// What became of a transfer that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How far it has come.
    pub status: Status,
    /// Why, if it is refused or waits.
    pub reasons: Vec<Reason>,
    /// This bank's number of it: the posting.
    pub reference: Option<String>,
    /// When this bank had all it needed.
    pub accepted: Option<Moment>,
}

impl Outcome {
    /// A status without more.
    pub fn plain(status: Status) -> Self {
        Self { status, reasons: Vec::new(), reference: None, accepted: None }
    }

    fn rejected(faults: &Faults) -> Self {
        Self { reasons: Reason::of(faults), ..Self::plain(Status::Rejected) }
    }
}

/// One transfer in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferStatus {
    /// `OrgnlInstrId`.
    pub instruction_id: Option<String>,
    /// `OrgnlEndToEndId`.
    pub end_to_end_id: Option<String>,
    /// `OrgnlTxId`; between banks only.
    pub transaction_id: Option<String>,
    /// `OrgnlUETR`.
    pub uetr: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
}

/// The message that is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Original {
    /// Its number.
    pub message_id: String,
    /// Which message it is: `pain.001.001.09`.
    pub name: String,
    /// When it was made.
    pub created: Option<Moment>,
    /// How many transfers it has.
    pub transfers: Option<u64>,
}

impl Original {
    /// What can be told of a message that was refused as a whole; its number may be all there is, or not even that.
    pub fn peek(bytes: &[u8], name: &str) -> Self {
        let document = crate::xml::parse(bytes).ok();
        let header = document.as_ref().and_then(|document| document.root.children.first()?.child("GrpHdr"));
        let valid = |element: &&str, kind: Value| kind.check(element).is_ok();
        let at = |name: &str| header.and_then(|header| header.text_at(&[name]));
        Self {
            message_id: at("MsgId").filter(|id| valid(id, Value::Text(35))).unwrap_or(UNKNOWN).to_owned(),
            name: name.to_owned(),
            created: at("CreDtTm").and_then(|text| text.parse().ok()),
            transfers: at("NbOfTxs").filter(|n| valid(n, Value::Count)).and_then(|n| n.parse().ok()),
        }
    }
}

/// An instruction in an answer to a customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstructionStatus {
    /// `OrgnlPmtInfId`.
    pub id: String,
    /// Of all its transfers.
    pub status: Option<Status>,
    /// Why.
    pub reasons: Vec<Reason>,
    /// Each of its transfers; none if the instruction was refused as a whole.
    pub transfers: Vec<TransferStatus>,
}

/// An answer: to a customer ([`pain.002`](Report::write_to_customer)) or to a bank ([`pacs.002`](Report::write_to_bank)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its number, of this bank's choice.
    pub message_id: String,
    /// When it is made.
    pub created: Moment,
    /// What it answers.
    pub original: Original,
    /// Of the message.
    pub status: Option<Status>,
    /// Why.
    pub reasons: Vec<Reason>,
    /// Of its instructions; a message between banks has none.
    pub instructions: Vec<InstructionStatus>,
    /// Of the transfers of a message between banks.
    pub transfers: Vec<TransferStatus>,
}

/// Number and time of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Of this bank's choice, at most 35 characters.
    pub message_id: String,
    /// When it is made.
    pub created: Moment,
}

impl Report {
    /// The answer to a message that was refused as a whole.
    pub fn refusal(stamp: Stamp, original: Original, faults: &Faults) -> Self {
        Self {
            message_id: stamp.message_id,
            created: stamp.created,
            original,
            status: Some(Status::Rejected),
            reasons: Reason::of(faults),
            instructions: Vec::new(),
            transfers: Vec::new(),
        }
    }

    /// The answer to a customer: each transfer that was taken with the outcome it is given here, each of the others
    /// refused with its faults.
    pub fn to_customer(
        stamp: Stamp,
        message: &pain001::Initiation,
        mut outcome: impl FnMut(&pain001::Instruction, &pain001::Transfer) -> Outcome,
    ) -> Self {
        let mut instructions = Vec::new();
        for batch in &message.instructions {
            let taken = batch.transfers.iter().map(|transfer| TransferStatus {
                instruction_id: transfer.instruction_id.clone(),
                end_to_end_id: Some(transfer.end_to_end_id.clone()),
                transaction_id: None,
                uetr: transfer.uetr.clone(),
                outcome: outcome(batch, transfer),
            });
            let taken: Vec<_> = taken.collect();
            let refused = batch.refused.iter().map(|refused| TransferStatus {
                instruction_id: identifier(refused.instruction_id.as_ref()),
                end_to_end_id: identifier(refused.end_to_end_id.as_ref()),
                transaction_id: None,
                uetr: None,
                outcome: Outcome::rejected(&refused.faults),
            });
            let transfers: Vec<_> = taken.into_iter().chain(refused).collect();
            let status = Status::of_group(transfers.iter().map(|transfer| transfer.outcome.status));
            instructions.push(InstructionStatus {
                id: batch.id.clone(),
                status,
                reasons: Vec::new(),
                transfers,
            });
        }
        instructions.extend(message.refused.iter().map(|refused| InstructionStatus {
            id: identifier(refused.id.as_ref()).unwrap_or_else(|| UNKNOWN.into()),
            status: Some(Status::Rejected),
            reasons: Reason::of(&refused.faults),
            transfers: Vec::new(),
        }));
        let count = |batch: &pain001::Instruction| batch.transfers.len() + batch.refused.len();
        let refused: usize = message.refused.iter().map(|refused| refused.transfers).sum();
        let transfers = message.instructions.iter().map(count).sum::<usize>() + refused;
        Self {
            message_id: stamp.message_id,
            created: stamp.created,
            original: Original {
                message_id: message.message_id.clone(),
                name: pain001::NAME.into(),
                created: Some(message.created),
                transfers: Some(transfers as u64),
            },
            status: Status::of_group(instructions.iter().filter_map(|instruction| instruction.status)),
            reasons: Vec::new(),
            instructions,
            transfers: Vec::new(),
        }
    }

    /// The answer to a bank, in the same way.
    pub fn to_bank(
        stamp: Stamp,
        message: &pacs008::Transfers,
        mut outcome: impl FnMut(&pacs008::Transfer) -> Outcome,
    ) -> Self {
        let taken = message.transfers.iter().map(|transfer| TransferStatus {
            instruction_id: transfer.instruction_id.clone(),
            end_to_end_id: Some(transfer.end_to_end_id.clone()),
            transaction_id: transfer.transaction_id.clone(),
            uetr: transfer.uetr.clone(),
            outcome: outcome(transfer),
        });
        let taken: Vec<_> = taken.collect();
        let refused = message.refused.iter().map(|refused| TransferStatus {
            instruction_id: identifier(refused.instruction_id.as_ref()),
            end_to_end_id: identifier(refused.end_to_end_id.as_ref()),
            transaction_id: identifier(refused.transaction_id.as_ref()),
            uetr: None,
            outcome: Outcome::rejected(&refused.faults),
        });
        let transfers: Vec<_> = taken.into_iter().chain(refused).collect();
        Self {
            message_id: stamp.message_id,
            created: stamp.created,
            original: Original {
                message_id: message.message_id.clone(),
                name: pacs008::NAME.into(),
                created: Some(message.created),
                transfers: Some(transfers.len() as u64),
            },
            status: Status::of_group(transfers.iter().map(|transfer| transfer.outcome.status)),
            reasons: Vec::new(),
            instructions: Vec::new(),
            transfers,
        }
    }
}

/// An identifier of a refused transfer, if it may be repeated in an answer: its own length may be what is wrong.
fn identifier(id: Option<&String>) -> Option<String> {
    id.filter(|id| Value::Text(35).check(id).is_ok()).cloned()
}
