//! Reads `pacs.008`: what is in order of it and, beside that, what is refused and why.

use super::rules::judge;
use super::{Charge, Method, NAMESPACE, Priority, Refused, SCHEMA, Settlement, Transfer, Transfers};
use crate::Terms;
use crate::common::{
    Account, Agent, ChargeBearer, Coded, Party, PaymentType, open, optional_day, optional_money,
    optional_text, read_remittance, required, required_moment, required_money, required_text,
};
use crate::fault::{Fault, Faults, Scope};
use crate::schema::{Verdict, check};
use crate::xml::Element;

/// Reads a message: what is in order of it and, beside that, what is refused and why. An error refuses all of it.
pub fn read(bytes: &[u8], terms: Terms) -> Result<Transfers, Faults> {
    let document = open(bytes, NAMESPACE)?;
    let mut verdict = check(&document.root, &SCHEMA);
    let body = required(&document.root, "FIToFICstmrCdtTrf").map_err(Faults::from)?;
    judge(body, Some(terms), &mut verdict);
    if let Some(faults) = verdict.take(Scope::Message) {
        return Err(faults);
    }
    Ok(message(body, &mut verdict)?)
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
