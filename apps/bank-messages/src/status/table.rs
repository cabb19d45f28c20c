//! The schemas of `pain.002.001.10` and `pacs.002.001.10` as tables.

use crate::common::{CODED, COUNT, ID, MOMENT, PARTY};
use crate::schema::{Content, Part, Value, any, maybe, not_here, one, text, value};

/// The schema of the answer to a customer.
pub const CUSTOMER_SCHEMA: Part = one(
    "Document",
    Content::Sequence(&[one(
        "CstmrPmtStsRpt",
        Content::Sequence(&[
            one("GrpHdr", CUSTOMER_HEADER),
            one("OrgnlGrpInfAndSts", ORIGINAL),
            any("OrgnlPmtInfAndSts", INSTRUCTION),
            not_here("SplmtryData"),
        ]),
    )]),
);

/// The schema of the answer to a bank.
pub const BANK_SCHEMA: Part = one(
    "Document",
    Content::Sequence(&[one(
        "FIToFIPmtStsRpt",
        Content::Sequence(&[
            one("GrpHdr", BANK_HEADER),
            one("OrgnlGrpInfAndSts", ORIGINAL),
            any("TxInfAndSts", BANK_TRANSFER),
            not_here("SplmtryData"),
        ]),
    )]),
);

/// `GroupHeader86`.
const CUSTOMER_HEADER: Content = Content::Sequence(&[
    one("MsgId", ID),
    one("CreDtTm", MOMENT),
    maybe("InitgPty", PARTY),
    not_here("FwdgAgt"),
    not_here("DbtrAgt"),
    not_here("CdtrAgt"),
]);

/// `GroupHeader91`.
const BANK_HEADER: Content = Content::Sequence(&[
    one("MsgId", ID),
    one("CreDtTm", MOMENT),
    not_here("InstgAgt"),
    not_here("InstdAgt"),
]);

/// `OriginalGroupHeader17`.
const ORIGINAL: Content = Content::Sequence(&[
    one("OrgnlMsgId", ID),
    one("OrgnlMsgNmId", ID),
    maybe("OrgnlCreDtTm", MOMENT),
    maybe("OrgnlNbOfTxs", COUNT),
    not_here("OrgnlCtrlSum"),
    maybe("GrpSts", STATUS),
    any("StsRsnInf", REASON),
    not_here("NbOfTxsPerSts"),
]);

/// `OriginalPaymentInstruction32`.
const INSTRUCTION: Content = Content::Sequence(&[
    one("OrgnlPmtInfId", ID),
    maybe("OrgnlNbOfTxs", COUNT),
    not_here("OrgnlCtrlSum"),
    maybe("PmtInfSts", STATUS),
    any("StsRsnInf", REASON),
    not_here("NbOfTxsPerSts"),
    any("TxInfAndSts", CUSTOMER_TRANSFER),
]);

/// `PaymentTransaction105`.
const CUSTOMER_TRANSFER: Content = Content::Sequence(&[
    maybe("StsId", ID),
    maybe("OrgnlInstrId", ID),
    maybe("OrgnlEndToEndId", ID),
    maybe("OrgnlUETR", value(Value::Uetr)),
    maybe("TxSts", STATUS),
    any("StsRsnInf", REASON),
    not_here("ChrgsInf"),
    not_here("TrckrData"),
    maybe("AccptncDtTm", MOMENT),
    maybe("AcctSvcrRef", ID),
    not_here("ClrSysRef"),
    not_here("OrgnlTxRef"),
    not_here("SplmtryData"),
]);

/// `PaymentTransaction110`.
const BANK_TRANSFER: Content = Content::Sequence(&[
    maybe("StsId", ID),
    not_here("OrgnlGrpInf"),
    maybe("OrgnlInstrId", ID),
    maybe("OrgnlEndToEndId", ID),
    maybe("OrgnlTxId", ID),
    maybe("OrgnlUETR", value(Value::Uetr)),
    maybe("TxSts", STATUS),
    any("StsRsnInf", REASON),
    not_here("ChrgsInf"),
    maybe("AccptncDtTm", MOMENT),
    not_here("FctvIntrBkSttlmDt"),
    maybe("AcctSvcrRef", ID),
    not_here("ClrSysRef"),
    not_here("InstgAgt"),
    not_here("InstdAgt"),
    not_here("OrgnlTxRef"),
    not_here("SplmtryData"),
]);

const STATUS: Content = value(Value::Code(&["RCVD", "PDNG", "ACCP", "ACSP", "ACSC", "PART", "RJCT"]));

/// `StatusReasonInformation12`.
const REASON: Content =
    Content::Sequence(&[not_here("Orgtr"), maybe("Rsn", CODED), any("AddtlInf", text(LINE_CHARS_MAX))]);

/// Longest line of a reason, as the schema has it.
pub(super) const LINE_CHARS_MAX: usize = 105;
