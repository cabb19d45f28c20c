//! Writes `pacs.008`.

use super::rules::judge;
use super::{Charge, NAMESPACE, Priority, SCHEMA, Transfer, Transfers};
use crate::common::{Agent, Build, Party, PaymentType, seal, write_remittance};
use crate::fault::Faults;
use crate::totals::sum;
use crate::value::ExactDecimal;
use crate::xml::Element;

/// Writes a message with count and control sum, the day of settlement with each transfer. What was refused when it was
/// read is not in it; a message that would be refused, days aside, is not written.
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
    let body = Build::new("FIToFICstmrCdtTrf").push(header).all(transfers).done();
    seal(NAMESPACE, &SCHEMA, body, |body, verdict| judge(body, None, verdict))
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
