//! What is wrong with a message: where, under which code, and what whoever sent it can do.

use std::fmt;

/// Most faults that are told of one transfer, or of what is no transfer: who has more begins with the first ones anyway.
pub const FAULTS_MAX: usize = 20;
/// Most characters of a message's own text that are repeated in a fault.
const SHOWN_MAX: usize = 40;

macro_rules! fault_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $reason:literal, $remedy:literal;)*) => {
        /// Stable codes of faults. Once published a code keeps its text and meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FaultCode {
            $($(#[$doc])* $name,)*
        }

        impl FaultCode {
            /// Every code, for documentation and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as it is written in answers.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The reason to answer with, of ISO 20022's external code set of status reasons
            /// (`ExternalStatusReason1Code`).
            pub fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }

            /// What whoever sent the message can do.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }
        }
    };
}

fault_codes! {
    /// Not well-formed XML 1.0.
    XmlMalformed = "xml.malformed", "FF01", "send well-formed XML 1.0";
    /// Not UTF-8, or declared as something else.
    XmlEncoding = "xml.encoding", "FF01", "send the message in UTF-8";
    /// Document type, entity or processing instruction.
    XmlForbidden = "xml.forbidden", "FF01",
        "leave out document types, entities of your own and processing instructions";
    /// More bytes, elements or levels than are read.
    XmlTooLarge = "xml.too_large", "FF01", "split the message";
    /// Another message than the endpoint takes.
    MessageUnexpected = "message.unexpected", "FF01", "send the message and version this service takes";
    /// An element that must be there is not.
    ElementMissing = "element.missing", "FF01", "add the element";
    /// An element the schema does not have here.
    ElementUnknown = "element.unknown", "FF01", "remove the element, or spell it as the schema does";
    /// An element of the schema at another place than the schema's order has it.
    ElementMisplaced = "element.misplaced", "FF01", "put the elements into the schema's order";
    /// An element more often than the schema allows.
    ElementRepeated = "element.repeated", "FF01", "send the element once, or as often as the schema allows";
    /// The schema has the element; this bank does not act upon it.
    ElementUnsupported = "element.unsupported", "NARR", "leave the element out, or give the order at a counter";
    /// Text where only elements may be, or elements where only text may be.
    ElementContent = "element.content", "FF01", "put values into the elements the schema has for them";
    /// An attribute the schema does not have here.
    AttributeUnknown = "attribute.unknown", "FF01", "remove the attribute";
    /// An attribute that must be there is not.
    AttributeMissing = "attribute.missing", "FF01", "add the attribute";
    /// Empty or blank.
    ValueEmpty = "value.empty", "FF01", "give a value, or leave the element out if it is optional";
    /// Longer than the schema allows.
    ValueTooLong = "value.too_long", "FF01", "shorten the value";
    /// Not of the pattern the schema has.
    ValuePattern = "value.pattern", "FF01", "write the value as the schema's pattern has it";
    /// Not in the list of codes.
    ValueCode = "value.code", "FF01", "use a code of the list";
    /// Not a date or time of the calendar.
    ValueDate = "value.date", "DT01", "use a date of the calendar, as 2026-11-23 or 2026-11-23T09:30:00+08:00";
    /// Not a number of the form the schema has.
    ValueNumber = "value.number", "FF01", "write digits, with a point before decimals";
    /// An account number whose check digits are wrong.
    AccountCheckDigits = "account.check_digits", "AC01", "check the account number: its check digits do not fit";
    /// An identifier of a bank or company whose form or check digits are wrong.
    AgentIdentifier = "agent.identifier", "RC01", "check the bank's identifier";
    /// A currency this bank does not keep.
    CurrencyUnknown = "amount.currency_unknown", "AM03", "use an ISO 4217 currency that this bank keeps";
    /// More decimals than the currency has.
    AmountDecimals = "amount.decimals", "AM12", "write no more decimals than the currency has";
    /// An amount of nothing.
    AmountZero = "amount.zero", "AM01", "give an amount above zero";
    /// An amount beyond what can be booked.
    AmountRange = "amount.out_of_range", "AM12", "split the payment";
    /// Amounts that must be of one currency are not.
    CurrencyMixed = "amount.currency_mixed", "AM11", "send the currencies in messages of their own";
    /// The number of transfers is not what the message says.
    CountMismatch = "count.mismatch", "AM18", "correct NbOfTxs, or send the transfers that are missing";
    /// The sum of the amounts is not what the message says.
    SumMismatch = "sum.mismatch", "AM10", "correct the control sum, or the amounts";
    /// An identifier that is in the message already.
    IdentifierDuplicate = "identifier.duplicate", "AM05", "give every transfer identifiers of its own";
    /// A day before the business day.
    DatePast = "date.past", "DT01", "ask for an execution today or later";
    /// A day further ahead than orders are kept.
    DateTooFar = "date.too_far", "DT01", "send the order nearer to its execution";
    /// Elements that contradict each other.
    RuleBroken = "rule.broken", "NARR", "resolve the contradiction that the detail names";
    /// A statement that does not add up is never written.
    StatementUnbalanced = "statement.unbalanced", "NARR", "correct the entries or the balances";
}

impl fmt::Display for FaultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How much of a message a fault refuses. Batches and transfers are counted from 0, transfers within their batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All of it.
    Message,
    /// One payment instruction (`PmtInf`) with its transfers.
    Batch(usize),
    /// One transfer; the batch is 0 in messages that have none.
    Transfer(usize, usize),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {code}: {detail}; {}", code.remedy())]
pub struct Fault {
    /// Where, as an `XPath` without namespaces: `/Document/CstmrCdtTrfInitn/PmtInf[2]/CdtTrfTxInf[17]/Amt/InstdAmt`.
    pub path: String,
    /// What kind of fault.
    pub code: FaultCode,
    /// What exactly, in words.
    pub detail: String,
    /// How much of the message it refuses.
    pub scope: Scope,
}

/// Faults of a message, as they were found; never empty where it is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    told: Vec<Fault>,
    untold: usize,
}

impl Faults {
    /// Adds one; beyond [`FAULTS_MAX`] they are only counted.
    pub fn push(&mut self, fault: Fault) {
        if self.told.len() < FAULTS_MAX { self.told.push(fault) } else { self.untold += 1 }
    }

    /// Adds others; of the untold ones there may be more afterwards, never fewer told.
    pub fn append(&mut self, others: Self) {
        self.told.extend(others.told);
        self.untold += others.untold;
    }

    /// Those that are told.
    pub fn told(&self) -> &[Fault] {
        &self.told
    }

    /// How many more there are.
    pub fn untold(&self) -> usize {
        self.untold
    }

    /// True if nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// The reason to answer with: that of the first fault.
    pub fn reason(&self) -> &'static str {
        self.told.first().map_or("NARR", |fault| fault.code.reason())
    }

    /// The faults as an error, if there are any.
    pub fn into_result(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self { told: vec![fault], untold: 0 }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.told.iter().enumerate() {
            write!(f, "{}{fault}", if n == 0 { "" } else { "\n" })?;
        }
        if self.untold > 0 { write!(f, "\nand {} more", self.untold) } else { Ok(()) }
    }
}

impl std::error::Error for Faults {}

/// At most so much of a message's own text as a fault repeats.
pub(crate) fn cut(text: &str) -> &str {
    text.char_indices().nth(SHOWN_MAX).map_or(text, |(at, _)| &text[..at])
}

/// A message's own text as a fault repeats it: quoted, and cut.
pub(crate) fn shown(text: &str) -> String {
    let cut = cut(text);
    format!("{cut:?}{}", if cut.len() < text.len() { "…" } else { "" })
}
