//! Answers written and read.

use super::table::{BANK_SCHEMA, CUSTOMER_SCHEMA};
use super::{
    BANK_NAMESPACE, CUSTOMER_NAMESPACE, InstructionStatus, Original, Outcome, Reason, Report, Status,
    TransferStatus,
};
use crate::common::{Build, open, optional_text, required, required_moment, required_text, seal};
use crate::fault::{Fault, FaultCode, Faults};
use crate::schema::{Part, check};
use crate::xml::Element;

impl Report {
    /// Writes a `pain.002`. Transfers outside of an instruction have no place in it.
    pub fn write_to_customer(&self) -> Result<Vec<u8>, Faults> {
        if !self.transfers.is_empty() {
            return Err(misplaced("CstmrPmtStsRpt", "a transfer outside of an instruction").into());
        }
        let instructions = self.instructions.iter().map(|instruction| {
            Build::new("OrgnlPmtInfAndSts")
                .text("OrgnlPmtInfId", &instruction.id)
                .maybe_text("PmtInfSts", instruction.status.map(Status::code))
                .all(instruction.reasons.iter().map(Reason::write))
                .all(instruction.transfers.iter().map(write_transfer))
                .done()
        });
        let body = self.begin("CstmrPmtStsRpt").all(instructions).done();
        seal(CUSTOMER_NAMESPACE, &CUSTOMER_SCHEMA, body, |_, _| {})
    }

    /// Writes a `pacs.002`. Instructions have no place in it.
    pub fn write_to_bank(&self) -> Result<Vec<u8>, Faults> {
        if !self.instructions.is_empty() {
            return Err(misplaced("FIToFIPmtStsRpt", "an instruction").into());
        }
        let body = self.begin("FIToFIPmtStsRpt").all(self.transfers.iter().map(write_transfer)).done();
        seal(BANK_NAMESPACE, &BANK_SCHEMA, body, |_, _| {})
    }

    fn begin(&self, name: &str) -> Build {
        let header =
            Build::new("GrpHdr").text("MsgId", &self.message_id).text("CreDtTm", self.created).done();
        let original = Build::new("OrgnlGrpInfAndSts")
            .text("OrgnlMsgId", &self.original.message_id)
            .text("OrgnlMsgNmId", &self.original.name)
            .maybe_text("OrgnlCreDtTm", self.original.created)
            .maybe_text("OrgnlNbOfTxs", self.original.transfers)
            .maybe_text("GrpSts", self.status.map(Status::code))
            .all(self.reasons.iter().map(Reason::write))
            .done();
        Build::new(name).push(header).push(original)
    }
}

fn misplaced(path: &str, detail: &str) -> Fault {
    Fault {
        path: path.into(),
        code: FaultCode::ElementMisplaced,
        detail: detail.into(),
        scope: crate::Scope::Message,
    }
}

fn write_transfer(transfer: &TransferStatus) -> Element {
    Build::new("TxInfAndSts")
        .maybe_text("OrgnlInstrId", transfer.instruction_id.as_ref())
        .maybe_text("OrgnlEndToEndId", transfer.end_to_end_id.as_ref())
        .maybe_text("OrgnlTxId", transfer.transaction_id.as_ref())
        .maybe_text("OrgnlUETR", transfer.uetr.as_ref())
        .text("TxSts", transfer.outcome.status.code())
        .all(transfer.outcome.reasons.iter().map(Reason::write))
        .maybe_text("AccptncDtTm", transfer.outcome.accepted)
        .maybe_text("AcctSvcrRef", transfer.outcome.reference.as_ref())
        .done()
}

/// Reads a `pain.002`.
pub fn read_to_customer(bytes: &[u8]) -> Result<Report, Faults> {
    read(bytes, CUSTOMER_NAMESPACE, &CUSTOMER_SCHEMA, "CstmrPmtStsRpt")
}

/// Reads a `pacs.002`.
pub fn read_to_bank(bytes: &[u8]) -> Result<Report, Faults> {
    read(bytes, BANK_NAMESPACE, &BANK_SCHEMA, "FIToFIPmtStsRpt")
}

fn read(bytes: &[u8], namespace: &str, schema: &Part, body: &str) -> Result<Report, Faults> {
    let document = open(bytes, namespace)?;
    check(&document.root, schema).into_result()?;
    Ok(report(required(&document.root, body)?)?)
}

fn report(body: &Element) -> Result<Report, Fault> {
    let header = required(body, "GrpHdr")?;
    let original = required(body, "OrgnlGrpInfAndSts")?;
    let reasons =
        |element: &Element| element.each("StsRsnInf").map(Reason::read).collect::<Result<Vec<_>, _>>();
    let transfer = |element: &Element| {
        Ok(TransferStatus {
            instruction_id: optional_text(element, "OrgnlInstrId"),
            end_to_end_id: optional_text(element, "OrgnlEndToEndId"),
            transaction_id: optional_text(element, "OrgnlTxId"),
            uetr: optional_text(element, "OrgnlUETR"),
            outcome: Outcome {
                status: Status::read(element, "TxSts")
                    .ok_or_else(|| crate::common::absent(element, "TxSts"))?,
                reasons: reasons(element)?,
                reference: optional_text(element, "AcctSvcrRef"),
                accepted: element.text_at(&["AccptncDtTm"]).and_then(|text| text.parse().ok()),
            },
        })
    };
    let transfers =
        |element: &Element| element.each("TxInfAndSts").map(transfer).collect::<Result<Vec<_>, _>>();
    let instruction = |element: &Element| {
        Ok(InstructionStatus {
            id: required_text(element, "OrgnlPmtInfId")?,
            status: Status::read(element, "PmtInfSts"),
            reasons: reasons(element)?,
            transfers: transfers(element)?,
        })
    };
    Ok(Report {
        message_id: required_text(header, "MsgId")?,
        created: required_moment(header, "CreDtTm")?,
        original: Original {
            message_id: required_text(original, "OrgnlMsgId")?,
            name: required_text(original, "OrgnlMsgNmId")?,
            created: original.text_at(&["OrgnlCreDtTm"]).and_then(|text| text.parse().ok()),
            transfers: original.text_at(&["OrgnlNbOfTxs"]).and_then(|text| text.parse().ok()),
        },
        status: Status::read(original, "GrpSts"),
        reasons: reasons(original)?,
        instructions: body.each("OrgnlPmtInfAndSts").map(instruction).collect::<Result<_, Fault>>()?,
        transfers: transfers(body)?,
    })
}
