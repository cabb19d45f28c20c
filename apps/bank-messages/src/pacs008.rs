//! `pacs.008.001.08`: customers' credit transfers from bank to bank.

use dujiang_types::{Currency, Money};
use jiff::civil::Date;

use crate::Terms;
use crate::common::{
    ACCOUNT, AGENT, AMOUNT, Account, Agent, BEARER, Build, CODED, COUNT, ChargeBearer, Coded, DAY, ID,
    MOMENT, PARTY, PAYMENT_TYPE_OF_BANKS, Party, PaymentType, REMITTANCE, SUM, open, optional_day,
    optional_money, optional_text, read_remittance, required, required_moment, required_money, required_text,
    seal, write_remittance,
};
use crate::fault::{Fault, FaultCode, Faults, Scope};
use crate::moment::Moment;
use crate::schema::{Content, Part, Value, Verdict, any, check, maybe, not_here, one, some, value};
use crate::totals::{Seen, Totals, judge_agents, judge_named, sum};
use crate::value::ExactDecimal;
use crate::xml::Element;

/// The message's namespace.
pub const NAMESPACE: &str = "urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08";
/// The message's name, as answers repeat it.
pub const NAME: &str = "pacs.008.001.08";

/// The message's schema.
pub const SCHEMA: Part = one("Document", Content::Sequence(&[one("FIToFICstmrCdtTrf", TRANSFERS)]));

const TRANSFERS: Content =
    Content::Sequence(&[one("GrpHdr", HEADER), some("CdtTrfTxInf", TRANSFER), not_here("SplmtryData")]);

/// `GroupHeader93`.
const HEADER: Content = Content::Sequence(&[
    one("MsgId", ID),
    one("CreDtTm", MOMENT),
    not_here("BtchBookg"),
    one("NbOfTxs", COUNT),
    maybe("CtrlSum", SUM),
    maybe("TtlIntrBkSttlmAmt", AMOUNT),
    maybe("IntrBkSttlmDt", DAY),
    one("SttlmInf", SETTLEMENT),
    maybe("PmtTpInf", PAYMENT_TYPE_OF_BANKS),
    maybe("InstgAgt", AGENT),
    maybe("InstdAgt", AGENT),
]);

/// `SettlementInstruction7`.
const SETTLEMENT: Content = Content::Sequence(&[
    one("SttlmMtd", value(Value::Code(&["INDA", "INGA", "COVE", "CLRG"]))),
    maybe("SttlmAcct", ACCOUNT),
    maybe("ClrSys", Content::Choice(&[one("Cd", value(Value::External(3))), one("Prtry", ID)])),
    not_here("InstgRmbrsmntAgt"),
    not_here("InstgRmbrsmntAgtAcct"),
    not_here("InstdRmbrsmntAgt"),
    not_here("InstdRmbrsmntAgtAcct"),
    not_here("ThrdRmbrsmntAgt"),
    not_here("ThrdRmbrsmntAgtAcct"),
]);

/// `CreditTransferTransaction39`. The accounts, which the schema leaves open, are due: nothing is paid out over a counter.
const TRANSFER: Content = Content::Sequence(&[
    one("PmtId", PAYMENT_ID),
    maybe("PmtTpInf", PAYMENT_TYPE_OF_BANKS),
    one("IntrBkSttlmAmt", AMOUNT),
    maybe("IntrBkSttlmDt", DAY),
    maybe("SttlmPrty", value(Value::Code(&["URGT", "HIGH", "NORM"]))),
    not_here("SttlmTmIndctn"),
    not_here("SttlmTmReq"),
    maybe("AccptncDtTm", MOMENT),
    not_here("PoolgAdjstmntDt"),
    maybe("InstdAmt", AMOUNT),
    not_here("XchgRate"),
    one("ChrgBr", BEARER),
    any("ChrgsInf", Content::Sequence(&[one("Amt", Content::Amount { zero: true }), one("Agt", AGENT)])),
    not_here("PrvsInstgAgt1"),
    not_here("PrvsInstgAgt1Acct"),
    not_here("PrvsInstgAgt2"),
    not_here("PrvsInstgAgt2Acct"),
    not_here("PrvsInstgAgt3"),
    not_here("PrvsInstgAgt3Acct"),
    maybe("InstgAgt", AGENT),
    maybe("InstdAgt", AGENT),
    maybe("IntrmyAgt1", AGENT),
    not_here("IntrmyAgt1Acct"),
    not_here("IntrmyAgt2"),
    not_here("IntrmyAgt2Acct"),
    not_here("IntrmyAgt3"),
    not_here("IntrmyAgt3Acct"),
    maybe("UltmtDbtr", PARTY),
    maybe("InitgPty", PARTY),
    one("Dbtr", PARTY),
    one("DbtrAcct", ACCOUNT),
    one("DbtrAgt", AGENT),
    not_here("DbtrAgtAcct"),
    one("CdtrAgt", AGENT),
    not_here("CdtrAgtAcct"),
    one("Cdtr", PARTY),
    one("CdtrAcct", ACCOUNT),
    maybe("UltmtCdtr", PARTY),
    not_here("InstrForCdtrAgt"),
    not_here("InstrForNxtAgt"),
    maybe("Purp", CODED),
    not_here("RgltryRptg"),
    not_here("Tax"),
    not_here("RltdRmtInf"),
    maybe("RmtInf", REMITTANCE),
    not_here("SplmtryData"),
]);

/// `PaymentIdentification7`.
const PAYMENT_ID: Content = Content::Sequence(&[
    maybe("InstrId", ID),
    one("EndToEndId", ID),
    maybe("TxId", ID),
    maybe("UETR", value(Value::Uetr)),
    maybe("ClrSysRef", ID),
]);

/// How banks settle among each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `INDA`: on an account at who is instructed.
    InstructedAgent,
    /// `INGA`: on an account at who instructs.
    InstructingAgent,
    /// `COVE`: by a payment of its own.
    Cover,
    /// `CLRG`: in a clearing system.
    Clearing,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::InstructedAgent, Self::InstructingAgent, Self::Cover, Self::Clearing];

    /// The code of the schema.
    pub fn code(self) -> &'static str {
        match self {
            Self::InstructedAgent => "INDA",
            Self::InstructingAgent => "INGA",
            Self::Cover => "COVE",
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

/// Reads a message: what is in order of it and, beside that, what is refused and why. An error refuses all of it.
pub fn read(bytes: &[u8], terms: Terms) -> Result<Transfers, Faults> {
    let document = open(bytes, NAMESPACE)?;
    let mut verdict = check(&document.root, &SCHEMA);
    let body = required(&document.root, "FIToFICstmrCdtTrf").map_err(Faults::from)?;
    if let Some(header) = body.child("GrpHdr") {
        judge(body, header, terms, &mut verdict);
    }
    if let Some(faults) = verdict.take(Scope::Message) {
        return Err(faults);
    }
    Ok(message(body, &mut verdict)?)
}

const ROOT: &str = "/Document/FIToFICstmrCdtTrf";

/// Rules over several elements, which a schema cannot say.
fn judge(body: &Element, header: &Element, terms: Terms, verdict: &mut Verdict) {
    let totals = Totals::of(body.each("CdtTrfTxInf"), &["IntrBkSttlmAmt"]);
    let path = format!("{ROOT}/GrpHdr");
    totals.check(header, &path, Scope::Message, verdict);
    totals.check_number(ROOT, verdict);
    judge_total(body, header, verdict);
    judge_settlement(header, verdict);
    judge_agents(header, &["InstgAgt", "InstdAgt"], &path, Scope::Message, verdict);
    if let Some((code, detail)) =
        optional_day(header, "IntrBkSttlmDt").and_then(|day| terms.judge_settlement(day))
    {
        verdict.push(Fault { path: format!("{path}/IntrBkSttlmDt"), code, detail, scope: Scope::Message });
    }
    let mut seen = Seen::default();
    for (n, transfer) in body.each("CdtTrfTxInf").enumerate() {
        let path = format!("{ROOT}/CdtTrfTxInf[{}]", n + 1);
        let scope = Scope::Transfer(0, n);
        seen.check(transfer, &path, scope, verdict);
        judge_transfer(transfer, header, terms, &path, scope, verdict);
    }
}

/// `TtlIntrBkSttlmAmt` is the sum of the transfers, which must be of its currency then.
fn judge_total(body: &Element, header: &Element, verdict: &mut Verdict) {
    let Some(total) = optional_money(header, "TtlIntrBkSttlmAmt") else { return };
    let amounts =
        || body.each("CdtTrfTxInf").filter_map(|transfer| optional_money(transfer, "IntrBkSttlmAmt"));
    let fault = |code, detail| Fault {
        path: format!("{ROOT}/GrpHdr/TtlIntrBkSttlmAmt"),
        code,
        detail,
        scope: Scope::Message,
    };
    let is_other = |currency: Currency| currency != total.currency;
    if let Some(other) = amounts().map(|amount| amount.currency).find(|currency| is_other(*currency)) {
        let detail = format!("the total is in {}, a transfer in {other}", total.currency);
        verdict.push(fault(FaultCode::CurrencyMixed, detail));
    } else if Money::checked_sum(total.currency, amounts()) != Ok(total) {
        let detail = format!("the amounts do not add up to {total}");
        verdict.push(fault(FaultCode::SumMismatch, detail));
    }
}

fn judge_settlement(header: &Element, verdict: &mut Verdict) {
    let Some(settlement) = header.child("SttlmInf") else { return };
    let clearing = settlement.text_at(&["SttlmMtd"]) == Some("CLRG");
    let (name, detail) = if clearing {
        ("SttlmAcct", "a clearing system settles, and no account")
    } else {
        ("ClrSys", "the method of settlement has no clearing system")
    };
    if settlement.child(name).is_some() {
        verdict.push(Fault {
            path: format!("{ROOT}/GrpHdr/SttlmInf/{name}"),
            code: FaultCode::RuleBroken,
            detail: detail.into(),
            scope: Scope::Message,
        });
    }
}

fn judge_transfer(
    transfer: &Element,
    header: &Element,
    terms: Terms,
    path: &str,
    scope: Scope,
    verdict: &mut Verdict,
) {
    let agents = ["InstgAgt", "InstdAgt", "IntrmyAgt1", "DbtrAgt", "CdtrAgt"];
    judge_agents(transfer, &agents, path, scope, verdict);
    judge_named(transfer, "Dbtr", path, scope, verdict);
    judge_named(transfer, "Cdtr", path, scope, verdict);
    let mut tell = |name: &str, code, detail: String| {
        verdict.push(Fault { path: format!("{path}/{name}"), code, detail, scope });
    };
    for name in ["InstgAgt", "InstdAgt", "IntrBkSttlmDt"] {
        if transfer.child(name).is_some() && header.child(name).is_some() {
            tell(name, FaultCode::RuleBroken, "the header says it already, for all".into());
        }
    }
    if transfer.child("IntrBkSttlmDt").is_none() && header.child("IntrBkSttlmDt").is_none() {
        tell("IntrBkSttlmDt", FaultCode::ElementMissing, "neither the header nor the transfer has it".into());
    }
    if let Some((code, detail)) =
        optional_day(transfer, "IntrBkSttlmDt").and_then(|day| terms.judge_settlement(day))
    {
        tell("IntrBkSttlmDt", code, detail);
    }
    let settled = optional_money(transfer, "IntrBkSttlmAmt");
    if let (Some(settled), Some(instructed)) = (settled, optional_money(transfer, "InstdAmt"))
        && settled.currency != instructed.currency
    {
        let detail = "another currency than the settled one: payments are not exchanged here".into();
        tell("InstdAmt", FaultCode::CurrencyMixed, detail);
    }
}

fn message(body: &Element, verdict: &mut Verdict) -> Result<Transfers, Fault> {
    let header = required(body, "GrpHdr")?;
    let settlement = required(header, "SttlmInf")?;
    let method = settlement.text_at(&["SttlmMtd"]);
    let method = Method::ALL.into_iter().find(|known| Some(known.code()) == method);
    let (mut transfers, mut refused) = (Vec::new(), Vec::new());
    for (index, element) in body.each("CdtTrfTxInf").enumerate() {
        match verdict.take(Scope::Transfer(0, index)) {
            None => transfers.push(transfer(element, header)?),
            Some(faults) => {
                let id = |name: &str| element.text_at(&["PmtId", name]).map(str::to_owned);
                refused.push(Refused {
                    index,
                    instruction_id: id("InstrId"),
                    end_to_end_id: id("EndToEndId"),
                    transaction_id: id("TxId"),
                    faults,
                });
            }
        }
    }
    Ok(Transfers {
        message_id: required_text(header, "MsgId")?,
        created: required_moment(header, "CreDtTm")?,
        settlement: Settlement {
            method: method.ok_or_else(|| crate::common::absent(settlement, "SttlmMtd"))?,
            account: settlement.child("SttlmAcct").map(Account::read).transpose()?,
            clearing_system: settlement.child("ClrSys").map(Coded::read).transpose()?,
        },
        payment_type: header.child("PmtTpInf").map(PaymentType::read).transpose()?,
        instructing_agent: header.child("InstgAgt").map(Agent::read).transpose()?,
        instructed_agent: header.child("InstdAgt").map(Agent::read).transpose()?,
        transfers,
        refused,
    })
}

fn transfer(element: &Element, header: &Element) -> Result<Transfer, Fault> {
    let id = required(element, "PmtId")?;
    let party = |name: &str| element.child(name).map(Party::read).transpose();
    let agent = |name: &str| element.child(name).map(Agent::read).transpose();
    let absent = |name: &str| crate::common::absent(element, name);
    let settled_on = optional_day(element, "IntrBkSttlmDt").or_else(|| optional_day(header, "IntrBkSttlmDt"));
    let charge = |charge: &Element| {
        Ok(Charge { amount: required_money(charge, "Amt")?, agent: Agent::read(required(charge, "Agt")?)? })
    };
    let priority = element.text_at(&["SttlmPrty"]);
    Ok(Transfer {
        instruction_id: optional_text(id, "InstrId"),
        end_to_end_id: required_text(id, "EndToEndId")?,
        transaction_id: optional_text(id, "TxId"),
        uetr: optional_text(id, "UETR"),
        clearing_reference: optional_text(id, "ClrSysRef"),
        payment_type: element.child("PmtTpInf").map(PaymentType::read).transpose()?,
        amount: required_money(element, "IntrBkSttlmAmt")?,
        settled_on: settled_on.ok_or_else(|| absent("IntrBkSttlmDt"))?,
        priority: Priority::ALL.into_iter().find(|known| Some(known.code()) == priority),
        accepted: element.text_at(&["AccptncDtTm"]).and_then(|text| text.parse().ok()),
        instructed: optional_money(element, "InstdAmt"),
        charge_bearer: ChargeBearer::read(element).ok_or_else(|| absent("ChrgBr"))?,
        charges: element.each("ChrgsInf").map(charge).collect::<Result<_, Fault>>()?,
        instructing_agent: agent("InstgAgt")?,
        instructed_agent: agent("InstdAgt")?,
        intermediary: agent("IntrmyAgt1")?,
        ultimate_debtor: party("UltmtDbtr")?,
        initiating_party: party("InitgPty")?,
        debtor: Party::read(required(element, "Dbtr")?)?,
        debtor_account: Account::read(required(element, "DbtrAcct")?)?,
        debtor_agent: Agent::read(required(element, "DbtrAgt")?)?,
        creditor_agent: Agent::read(required(element, "CdtrAgt")?)?,
        creditor: Party::read(required(element, "Cdtr")?)?,
        creditor_account: Account::read(required(element, "CdtrAcct")?)?,
        ultimate_creditor: party("UltmtCdtr")?,
        purpose: element.child("Purp").map(Coded::read).transpose()?,
        remittance: read_remittance(element),
    })
}

/// Writes a message with count and control sum, the day of settlement with each transfer. What was refused when it was
/// read is not in it; a message that its schema would refuse is not written.
pub fn write(message: &Transfers) -> Result<Vec<u8>, Faults> {
    let amounts: Vec<_> =
        message.transfers.iter().map(|transfer| ExactDecimal::of(transfer.amount)).collect();
    let settlement = Build::new("SttlmInf")
        .text("SttlmMtd", message.settlement.method.code())
        .maybe(message.settlement.account.as_ref().map(|account| account.write("SttlmAcct")))
        .maybe(message.settlement.clearing_system.as_ref().map(|system| system.write("ClrSys")))
        .done();
    let header = Build::new("GrpHdr")
        .text("MsgId", &message.message_id)
        .text("CreDtTm", message.created)
        .text("NbOfTxs", amounts.len())
        .maybe_text("CtrlSum", sum(&amounts))
        .push(settlement)
        .maybe(message.payment_type.as_ref().map(PaymentType::write))
        .maybe(message.instructing_agent.as_ref().map(|agent| agent.write("InstgAgt")))
        .maybe(message.instructed_agent.as_ref().map(|agent| agent.write("InstdAgt")))
        .done();
    let transfers = message.transfers.iter().map(write_transfer);
    seal(NAMESPACE, &SCHEMA, Build::new("FIToFICstmrCdtTrf").push(header).all(transfers).done())
}

fn write_transfer(transfer: &Transfer) -> Element {
    let id = Build::new("PmtId")
        .maybe_text("InstrId", transfer.instruction_id.as_ref())
        .text("EndToEndId", &transfer.end_to_end_id)
        .maybe_text("TxId", transfer.transaction_id.as_ref())
        .maybe_text("UETR", transfer.uetr.as_ref())
        .maybe_text("ClrSysRef", transfer.clearing_reference.as_ref())
        .done();
    let charge = |charge: &Charge| {
        Build::new("ChrgsInf").money("Amt", charge.amount).push(charge.agent.write("Agt")).done()
    };
    let agent = |name: &str, agent: Option<&Agent>| agent.map(|agent| agent.write(name));
    let party = |name: &str, party: Option<&Party>| party.map(|party| party.write(name));
    Build::new("CdtTrfTxInf")
        .push(id)
        .maybe(transfer.payment_type.as_ref().map(PaymentType::write))
        .money("IntrBkSttlmAmt", transfer.amount)
        .text("IntrBkSttlmDt", transfer.settled_on)
        .maybe_text("SttlmPrty", transfer.priority.map(Priority::code))
        .maybe_text("AccptncDtTm", transfer.accepted)
        .maybe_money("InstdAmt", transfer.instructed)
        .text("ChrgBr", transfer.charge_bearer.code())
        .all(transfer.charges.iter().map(charge))
        .maybe(agent("InstgAgt", transfer.instructing_agent.as_ref()))
        .maybe(agent("InstdAgt", transfer.instructed_agent.as_ref()))
        .maybe(agent("IntrmyAgt1", transfer.intermediary.as_ref()))
        .maybe(party("UltmtDbtr", transfer.ultimate_debtor.as_ref()))
        .maybe(party("InitgPty", transfer.initiating_party.as_ref()))
        .push(transfer.debtor.write("Dbtr"))
        .push(transfer.debtor_account.write("DbtrAcct"))
        .push(transfer.debtor_agent.write("DbtrAgt"))
        .push(transfer.creditor_agent.write("CdtrAgt"))
        .push(transfer.creditor.write("Cdtr"))
        .push(transfer.creditor_account.write("CdtrAcct"))
        .maybe(party("UltmtCdtr", transfer.ultimate_creditor.as_ref()))
        .maybe(transfer.purpose.as_ref().map(|purpose| purpose.write("Purp")))
        .maybe(write_remittance(&transfer.remittance))
        .done()
}
