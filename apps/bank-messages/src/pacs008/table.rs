//! The schema of `pacs.008.001.08` as a table.

use crate::common::{
    ACCOUNT, AGENT, AMOUNT, BEARER, CODED, COUNT, DAY, ID, MOMENT, PARTY, PAYMENT_TYPE_OF_BANKS, REMITTANCE,
    SUM,
};
use crate::schema::{Content, Part, Value, any, maybe, not_here, one, some, value};

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
    one("SttlmMtd", value(Value::Code(&["INDA", "INGA", "CLRG"]))),
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
