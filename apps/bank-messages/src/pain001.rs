//! `pain.001.001.09`: a customer's credit transfers.

use dujiang_types::Money;
use jiff::civil::Date;

use crate::Terms;
use crate::common::{
    ACCOUNT, AGENT, AMOUNT, Account, Agent, BEARER, Build, CODED, COUNT, ChargeBearer, Coded, DAY, ID,
    MOMENT, PARTY, PAYMENT_TYPE, Party, PaymentType, REMITTANCE, SUM, open, optional_text, read_remittance,
    required, required_moment, required_money, required_text, seal, write_remittance,
};
use crate::fault::{Fault, FaultCode, Faults, Scope};
use crate::moment::{Moment, parse_date};
use crate::schema::{Content, Part, Value, Verdict, check, maybe, not_here, one, some, value};
use crate::totals::{Seen, Totals, judge_agents, judge_named, sum};
use crate::value::ExactDecimal;
use crate::xml::Element;

/// The message's namespace.
pub const NAMESPACE: &str = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09";
/// The message's name, as answers repeat it.
pub const NAME: &str = "pain.001.001.09";

/// The message's schema.
pub const SCHEMA: Part = one("Document", Content::Sequence(&[one("CstmrCdtTrfInitn", INITIATION)]));

const INITIATION: Content =
    Content::Sequence(&[one("GrpHdr", HEADER), some("PmtInf", INSTRUCTION), not_here("SplmtryData")]);

/// `GroupHeader85`.
const HEADER: Content = Content::Sequence(&[
    one("MsgId", ID),
    one("CreDtTm", MOMENT),
    not_here("Authstn"),
    one("NbOfTxs", COUNT),
    maybe("CtrlSum", SUM),
    one("InitgPty", PARTY),
    not_here("FwdgAgt"),
]);

/// `PaymentInstruction30`.
const INSTRUCTION: Content = Content::Sequence(&[
    one("PmtInfId", ID),
    one("PmtMtd", value(Value::Code(&["TRF"]))),
    maybe("BtchBookg", value(Value::Flag)),
    maybe("NbOfTxs", COUNT),
    maybe("CtrlSum", SUM),
    maybe("PmtTpInf", PAYMENT_TYPE),
    one("ReqdExctnDt", Content::Choice(&[one("Dt", DAY), one("DtTm", MOMENT)])),
    not_here("PoolgAdjstmntDt"),
    one("Dbtr", PARTY),
    one("DbtrAcct", ACCOUNT),
    one("DbtrAgt", AGENT),
    not_here("DbtrAgtAcct"),
    not_here("InstrForDbtrAgt"),
    maybe("UltmtDbtr", PARTY),
    maybe("ChrgBr", BEARER),
    not_here("ChrgsAcct"),
    not_here("ChrgsAcctAgt"),
    some("CdtTrfTxInf", TRANSFER),
]);

/// `CreditTransferTransaction34`. Creditor and its account, which the schema leaves open, are due: cheques are not paid.
const TRANSFER: Content = Content::Sequence(&[
    one("PmtId", PAYMENT_ID),
    maybe("PmtTpInf", PAYMENT_TYPE),
    one("Amt", Content::Choice(&[one("InstdAmt", AMOUNT), not_here("EqvtAmt")])),
    not_here("XchgRateInf"),
    maybe("ChrgBr", BEARER),
    not_here("ChqInstr"),
    maybe("UltmtDbtr", PARTY),
    maybe("IntrmyAgt1", AGENT),
    not_here("IntrmyAgt1Acct"),
    not_here("IntrmyAgt2"),
    not_here("IntrmyAgt2Acct"),
    not_here("IntrmyAgt3"),
    not_here("IntrmyAgt3Acct"),
    maybe("CdtrAgt", AGENT),
    not_here("CdtrAgtAcct"),
    one("Cdtr", PARTY),
    one("CdtrAcct", ACCOUNT),
    maybe("UltmtCdtr", PARTY),
    not_here("InstrForCdtrAgt"),
    not_here("InstrForDbtrAgt"),
    maybe("Purp", CODED),
    not_here("RgltryRptg"),
    not_here("Tax"),
    not_here("RltdRmtInf"),
    maybe("RmtInf", REMITTANCE),
    not_here("SplmtryData"),
]);

const PAYMENT_ID: Content =
    Content::Sequence(&[maybe("InstrId", ID), one("EndToEndId", ID), maybe("UETR", value(Value::Uetr))]);

/// When an instruction shall be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Execution {
    /// On a day.
    Day(Date),
    /// At a time of a day.
    At(Moment),
}

impl Execution {
    /// The day in China.
    pub fn day(self) -> Date {
        match self {
            Self::Day(day) => day,
            Self::At(moment) => moment.day_in_china(),
        }
    }
}

/// One transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The customer's number of it, between the customer and this bank.
    pub instruction_id: Option<String>,
    /// The customer's number of it, all the way to the creditor.
    pub end_to_end_id: String,
    /// Unique over all banks: a version 4 UUID.
    pub uetr: Option<String>,
    /// What kind of payment, if not as its instruction says.
    pub payment_type: Option<PaymentType>,
    /// How much; above zero.
    pub amount: Money,
    /// Who pays the charges, if not as its instruction says.
    pub charge_bearer: Option<ChargeBearer>,
    /// On whose behalf.
    pub ultimate_debtor: Option<Party>,
    /// A bank in between.
    pub intermediary: Option<Agent>,
    /// The creditor's bank; none means this one.
    pub creditor_agent: Option<Agent>,
    /// To whom.
    pub creditor: Party,
    /// Where to.
    pub creditor_account: Account,
    /// For whom in the end.
    pub ultimate_creditor: Option<Party>,
    /// What for: `SALA` is a salary.
    pub purpose: Option<Coded>,
    /// Lines for the creditor, at most 140 characters each.
    pub remittance: Vec<String>,
}

/// Transfers from one account on one day: `PmtInf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// The customer's number of it.
    pub id: String,
    /// True if the account shall show one entry for all.
    pub batch_booking: Option<bool>,
    /// What kind of payments.
    pub payment_type: Option<PaymentType>,
    /// When.
    pub execution: Execution,
    /// Who pays.
    pub debtor: Party,
    /// Where from.
    pub debtor_account: Account,
    /// The debtor's bank: this one.
    pub debtor_agent: Agent,
    /// On whose behalf.
    pub ultimate_debtor: Option<Party>,
    /// Who pays the charges.
    pub charge_bearer: Option<ChargeBearer>,
    /// The transfers that are in order.
    pub transfers: Vec<Transfer>,
    /// The transfers that are not.
    pub refused: Vec<Refused>,
}

/// A transfer that is refused, as far as it can be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its place in the instruction, from 0.
    pub index: usize,
    /// Its numbers, where they can be read.
    pub instruction_id: Option<String>,
    /// Its numbers, where they can be read.
    pub end_to_end_id: Option<String>,
    /// What is wrong.
    pub faults: Faults,
}

/// An instruction that is refused with all its transfers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedInstruction {
    /// Its number, if it can be read.
    pub id: Option<String>,
    /// How many transfers it has.
    pub transfers: usize,
    /// What is wrong.
    pub faults: Faults,
}

/// The message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initiation {
    /// Its number, of its sender's choice.
    pub message_id: String,
    /// When it was made.
    pub created: Moment,
    /// Who sends it.
    pub initiating_party: Party,
    /// Instructions that are in order, though transfers of them may be refused.
    pub instructions: Vec<Instruction>,
    /// Instructions that are not.
    pub refused: Vec<RefusedInstruction>,
}

impl Initiation {
    /// True if nothing of it is refused.
    pub fn is_whole(&self) -> bool {
        self.refused.is_empty() && self.instructions.iter().all(|instruction| instruction.refused.is_empty())
    }
}

/// Reads a message: what is in order of it and, beside that, what is refused and why. An error refuses all of it.
pub fn read(bytes: &[u8], terms: Terms) -> Result<Initiation, Faults> {
    let document = open(bytes, NAMESPACE)?;
    let mut verdict = check(&document.root, &SCHEMA);
    let body = required(&document.root, "CstmrCdtTrfInitn").map_err(Faults::from)?;
    judge(body, Some(terms), &mut verdict);
    if let Some(faults) = verdict.take(Scope::Message) {
        return Err(faults);
    }
    Ok(initiation(body, &mut verdict)?)
}

/// Rules over several elements, which a schema cannot say; days only when there are terms to judge them by.
fn judge(body: &Element, terms: Option<Terms>, verdict: &mut Verdict) {
    let root = "/Document/CstmrCdtTrfInitn";
    let mut seen = Seen::default();
    let mut ids = std::collections::HashSet::new();
    let mut all = Totals::NONE;
    for (n, batch) in body.each("PmtInf").enumerate() {
        let path = format!("{root}/PmtInf[{}]", n + 1);
        let scope = Scope::Batch(n);
        let totals = Totals::of(batch.each("CdtTrfTxInf"), &["Amt", "InstdAmt"]);
        totals.check(batch, &path, scope, verdict);
        all = all.and(totals);
        if let Some(id) = batch.text_at(&["PmtInfId"])
            && !ids.insert(id)
        {
            let detail = "another instruction of the message has it".into();
            let code = FaultCode::IdentifierDuplicate;
            verdict.push(Fault { path: format!("{path}/PmtInfId"), code, detail, scope });
        }
        let day = batch.child("ReqdExctnDt").and_then(|choice| read_execution(choice).ok());
        if let Some((code, detail)) = day.and_then(|day| terms?.judge(day.day())) {
            verdict.push(Fault { path: format!("{path}/ReqdExctnDt"), code, detail, scope });
        }
        judge_agents(batch, &["DbtrAgt"], &path, scope, verdict);
        for (t, transfer) in batch.each("CdtTrfTxInf").enumerate() {
            let path = format!("{path}/CdtTrfTxInf[{}]", t + 1);
            let scope = Scope::Transfer(n, t);
            seen.check(transfer, &path, scope, verdict);
            judge_agents(transfer, &["IntrmyAgt1", "CdtrAgt"], &path, scope, verdict);
            judge_named(transfer, "Cdtr", &path, scope, verdict);
            // Rules of the message's definition: what the instruction says holds for all of its transfers.
            for name in ["PmtTpInf", "UltmtDbtr", "ChrgBr"] {
                if transfer.child(name).is_some() && batch.child(name).is_some() {
                    let detail = "the instruction says it already, for all its transfers".into();
                    let code = FaultCode::RuleBroken;
                    verdict.push(Fault { path: format!("{path}/{name}"), code, detail, scope });
                }
            }
        }
    }
    let header = body.child("GrpHdr");
    if let Some(header) = header {
        all.check(header, &format!("{root}/GrpHdr"), Scope::Message, verdict);
    }
}

fn initiation(body: &Element, verdict: &mut Verdict) -> Result<Initiation, Fault> {
    let header = required(body, "GrpHdr")?;
    let (mut instructions, mut refused) = (Vec::new(), Vec::new());
    for (n, batch) in body.each("PmtInf").enumerate() {
        match verdict.take(Scope::Batch(n)) {
            None => instructions.push(instruction(batch, n, verdict)?),
            Some(faults) => refused.push(RefusedInstruction {
                id: optional_text(batch, "PmtInfId"),
                transfers: batch.each("CdtTrfTxInf").count(),
                faults,
            }),
        }
    }
    Ok(Initiation {
        message_id: required_text(header, "MsgId")?,
        created: required_moment(header, "CreDtTm")?,
        initiating_party: Party::read(required(header, "InitgPty")?)?,
        instructions,
        refused,
    })
}

fn instruction(batch: &Element, n: usize, verdict: &mut Verdict) -> Result<Instruction, Fault> {
    let (mut transfers, mut refused) = (Vec::new(), Vec::new());
    for (index, element) in batch.each("CdtTrfTxInf").enumerate() {
        match verdict.take(Scope::Transfer(n, index)) {
            None => transfers.push(transfer(element)?),
            Some(faults) => refused.push(Refused {
                index,
                instruction_id: element.text_at(&["PmtId", "InstrId"]).map(str::to_owned),
                end_to_end_id: element.text_at(&["PmtId", "EndToEndId"]).map(str::to_owned),
                faults,
            }),
        }
    }
    Ok(Instruction {
        id: required_text(batch, "PmtInfId")?,
        batch_booking: batch.text_at(&["BtchBookg"]).map(|flag| matches!(flag, "true" | "1")),
        payment_type: batch.child("PmtTpInf").map(PaymentType::read).transpose()?,
        execution: read_execution(required(batch, "ReqdExctnDt")?)?,
        debtor: Party::read(required(batch, "Dbtr")?)?,
        debtor_account: Account::read(required(batch, "DbtrAcct")?)?,
        debtor_agent: Agent::read(required(batch, "DbtrAgt")?)?,
        ultimate_debtor: batch.child("UltmtDbtr").map(Party::read).transpose()?,
        charge_bearer: ChargeBearer::read(batch),
        transfers,
        refused,
    })
}

fn read_execution(choice: &Element) -> Result<Execution, Fault> {
    match choice.text_at(&["Dt"]).and_then(|text| parse_date(text).ok()) {
        Some(day) => Ok(Execution::Day(day)),
        None => Ok(Execution::At(required_moment(choice, "DtTm")?)),
    }
}

fn transfer(element: &Element) -> Result<Transfer, Fault> {
    let id = required(element, "PmtId")?;
    let party = |name: &str| element.child(name).map(Party::read).transpose();
    let agent = |name: &str| element.child(name).map(Agent::read).transpose();
    Ok(Transfer {
        instruction_id: optional_text(id, "InstrId"),
        end_to_end_id: required_text(id, "EndToEndId")?,
        uetr: optional_text(id, "UETR"),
        payment_type: element.child("PmtTpInf").map(PaymentType::read).transpose()?,
        amount: required_money(required(element, "Amt")?, "InstdAmt")?,
        charge_bearer: ChargeBearer::read(element),
        ultimate_debtor: party("UltmtDbtr")?,
        intermediary: agent("IntrmyAgt1")?,
        creditor_agent: agent("CdtrAgt")?,
        creditor: Party::read(required(element, "Cdtr")?)?,
        creditor_account: Account::read(required(element, "CdtrAcct")?)?,
        ultimate_creditor: party("UltmtCdtr")?,
        purpose: element.child("Purp").map(Coded::read).transpose()?,
        remittance: read_remittance(element),
    })
}

/// Writes a message with counts and control sums. What was refused when it was read is not in it; a message that
/// would be refused, days aside, is not written.
pub fn write(message: &Initiation) -> Result<Vec<u8>, Faults> {
    let amounts = |instruction: &Instruction| {
        instruction.transfers.iter().map(|transfer| ExactDecimal::of(transfer.amount)).collect::<Vec<_>>()
    };
    let all: Vec<_> = message.instructions.iter().flat_map(amounts).collect();
    let header = Build::new("GrpHdr")
        .text("MsgId", &message.message_id)
        .text("CreDtTm", message.created)
        .text("NbOfTxs", all.len())
        .maybe_text("CtrlSum", sum(&all))
        .push(message.initiating_party.write("InitgPty"))
        .done();
    let batches = message.instructions.iter().map(|batch| write_instruction(batch, &amounts(batch)));
    let body = Build::new("CstmrCdtTrfInitn").push(header).all(batches).done();
    seal(NAMESPACE, &SCHEMA, body, |body, verdict| judge(body, None, verdict))
}

fn write_instruction(batch: &Instruction, amounts: &[ExactDecimal]) -> Element {
    let execution = match batch.execution {
        Execution::Day(day) => Element::leaf("Dt", day.to_string()),
        Execution::At(moment) => Element::leaf("DtTm", moment.to_string()),
    };
    Build::new("PmtInf")
        .text("PmtInfId", &batch.id)
        .text("PmtMtd", "TRF")
        .maybe_text("BtchBookg", batch.batch_booking)
        .text("NbOfTxs", amounts.len())
        .maybe_text("CtrlSum", sum(amounts))
        .maybe(batch.payment_type.as_ref().map(PaymentType::write))
        .push(Element::with("ReqdExctnDt", vec![execution]))
        .push(batch.debtor.write("Dbtr"))
        .push(batch.debtor_account.write("DbtrAcct"))
        .push(batch.debtor_agent.write("DbtrAgt"))
        .maybe(batch.ultimate_debtor.as_ref().map(|party| party.write("UltmtDbtr")))
        .maybe_text("ChrgBr", batch.charge_bearer.map(ChargeBearer::code))
        .all(batch.transfers.iter().map(write_transfer))
        .done()
}

fn write_transfer(transfer: &Transfer) -> Element {
    let id = Build::new("PmtId")
        .maybe_text("InstrId", transfer.instruction_id.as_ref())
        .text("EndToEndId", &transfer.end_to_end_id)
        .maybe_text("UETR", transfer.uetr.as_ref())
        .done();
    Build::new("CdtTrfTxInf")
        .push(id)
        .maybe(transfer.payment_type.as_ref().map(PaymentType::write))
        .push(Build::new("Amt").money("InstdAmt", transfer.amount).done())
        .maybe_text("ChrgBr", transfer.charge_bearer.map(ChargeBearer::code))
        .maybe(transfer.ultimate_debtor.as_ref().map(|party| party.write("UltmtDbtr")))
        .maybe(transfer.intermediary.as_ref().map(|agent| agent.write("IntrmyAgt1")))
        .maybe(transfer.creditor_agent.as_ref().map(|agent| agent.write("CdtrAgt")))
        .push(transfer.creditor.write("Cdtr"))
        .push(transfer.creditor_account.write("CdtrAcct"))
        .maybe(transfer.ultimate_creditor.as_ref().map(|party| party.write("UltmtCdtr")))
        .maybe(transfer.purpose.as_ref().map(|purpose| purpose.write("Purp")))
        .maybe(write_remittance(&transfer.remittance))
        .done()
}
