//! The schema of `camt.053.001.08` as a table.

use crate::common::{ACCOUNT, ACCOUNT_ID, AGENT, CODED, COUNT, DAY, ID, MOMENT, PARTY, REMITTANCE, SUM};
use crate::schema::{Content, Part, Value, any, maybe, not_here, one, some, text, value};

/// The message's schema.
pub const SCHEMA: Part = one(
    "Document",
    Content::Sequence(&[one(
        "BkToCstmrStmt",
        Content::Sequence(&[one("GrpHdr", HEADER), some("Stmt", STATEMENT), not_here("SplmtryData")]),
    )]),
);

/// `GroupHeader81`.
const HEADER: Content = Content::Sequence(&[
    one("MsgId", ID),
    one("CreDtTm", MOMENT),
    not_here("MsgRcpt"),
    not_here("MsgPgntn"),
    not_here("OrgnlBizQry"),
    not_here("AddtlInf"),
]);

/// `AccountStatement9`.
const STATEMENT: Content = Content::Sequence(&[
    one("Id", ID),
    not_here("StmtPgntn"),
    maybe("ElctrncSeqNb", COUNT),
    not_here("RptgSeq"),
    not_here("LglSeqNb"),
    maybe("CreDtTm", MOMENT),
    maybe("FrToDt", Content::Sequence(&[one("FrDtTm", MOMENT), one("ToDtTm", MOMENT)])),
    not_here("CpyDplctInd"),
    not_here("RptgSrc"),
    one("Acct", OWNED_ACCOUNT),
    not_here("RltdAcct"),
    not_here("Intrst"),
    some("Bal", BALANCE),
    maybe("TxsSummry", SUMMARY),
    any("Ntry", ENTRY),
    not_here("AddtlStmtInf"),
]);

/// `CashAccount39`.
const OWNED_ACCOUNT: Content = Content::Sequence(&[
    one("Id", ACCOUNT_ID),
    maybe("Tp", CODED),
    maybe("Ccy", value(Value::Currency)),
    maybe("Nm", text(70)),
    not_here("Prxy"),
    maybe("Ownr", PARTY),
    maybe("Svcr", AGENT),
]);

/// `CashBalance8`.
const BALANCE: Content = Content::Sequence(&[
    one(
        "Tp",
        Content::Sequence(&[
            one("CdOrPrtry", Content::Choice(&[one("Cd", value(Value::Code(&["OPBD", "CLBD"])))])),
            not_here("SubTp"),
        ]),
    ),
    not_here("CdtLine"),
    one("Amt", ANY_AMOUNT),
    one("CdtDbtInd", DIRECTION),
    one("Dt", DAY_ONLY),
    not_here("Avlbty"),
]);

const ANY_AMOUNT: Content = Content::Amount { zero: true };
const DIRECTION: Content = value(Value::Code(&["CRDT", "DBIT"]));
const DAY_ONLY: Content = Content::Choice(&[one("Dt", DAY)]);

/// `TotalTransactions6`.
const SUMMARY: Content = Content::Sequence(&[
    maybe(
        "TtlNtries",
        Content::Sequence(&[
            maybe("NbOfNtries", COUNT),
            maybe("Sum", SUM),
            maybe("TtlNetNtry", Content::Sequence(&[one("Amt", SUM), one("CdtDbtInd", DIRECTION)])),
        ]),
    ),
    maybe("TtlCdtNtries", COUNT_AND_SUM),
    maybe("TtlDbtNtries", COUNT_AND_SUM),
    not_here("TtlNtriesPerBkTxCd"),
]);

const COUNT_AND_SUM: Content = Content::Sequence(&[maybe("NbOfNtries", COUNT), maybe("Sum", SUM)]);

/// `ReportEntry10`.
const ENTRY: Content = Content::Sequence(&[
    maybe("NtryRef", ID),
    one("Amt", ANY_AMOUNT),
    one("CdtDbtInd", DIRECTION),
    maybe("RvslInd", value(Value::Flag)),
    one("Sts", Content::Choice(&[one("Cd", value(Value::Code(&["BOOK"])))])),
    one("BookgDt", DAY_ONLY),
    one("ValDt", DAY_ONLY),
    maybe("AcctSvcrRef", ID),
    not_here("Avlbty"),
    one("BkTxCd", TRANSACTION_CODE),
    not_here("ComssnWvrInd"),
    not_here("AddtlInfInd"),
    not_here("AmtDtls"),
    not_here("Chrgs"),
    not_here("TechInptChanl"),
    not_here("Intrst"),
    not_here("CardTx"),
    maybe("NtryDtls", Content::Sequence(&[not_here("Btch"), one("TxDtls", DETAILS)])),
    maybe("AddtlNtryInf", text(500)),
]);

/// `BankTransactionCodeStructure4`.
const TRANSACTION_CODE: Content = Content::Sequence(&[
    one(
        "Domn",
        Content::Sequence(&[
            one("Cd", value(Value::External(4))),
            one(
                "Fmly",
                Content::Sequence(&[
                    one("Cd", value(Value::External(4))),
                    one("SubFmlyCd", value(Value::External(4))),
                ]),
            ),
        ]),
    ),
    not_here("Prtry"),
]);

/// `EntryTransaction10`.
const DETAILS: Content = Content::Sequence(&[
    maybe("Refs", REFERENCES),
    one("Amt", ANY_AMOUNT),
    one("CdtDbtInd", DIRECTION),
    not_here("AmtDtls"),
    not_here("Avlbty"),
    not_here("BkTxCd"),
    not_here("Chrgs"),
    not_here("Intrst"),
    maybe("RltdPties", PARTIES),
    not_here("RltdAgts"),
    not_here("LclInstrm"),
    maybe("Purp", CODED),
    not_here("RltdRmtInf"),
    maybe("RmtInf", REMITTANCE),
    not_here("RltdDts"),
    not_here("RltdPric"),
    not_here("RltdQties"),
    not_here("FinInstrmId"),
    not_here("Tax"),
    not_here("RtrInf"),
    not_here("CorpActn"),
    not_here("SfkpgAcct"),
    not_here("CshDpst"),
    not_here("CardTx"),
    not_here("AddtlTxInf"),
    not_here("SplmtryData"),
]);

/// `TransactionReferences6`.
const REFERENCES: Content = Content::Sequence(&[
    not_here("MsgId"),
    not_here("AcctSvcrRef"),
    not_here("PmtInfId"),
    maybe("InstrId", ID),
    maybe("EndToEndId", ID),
    maybe("UETR", value(Value::Uetr)),
    maybe("TxId", ID),
    not_here("MndtId"),
    not_here("ChqNb"),
    not_here("ClrSysRef"),
    not_here("AcctOwnrTxId"),
    not_here("AcctSvcrTxId"),
    not_here("MktInfrstrctrTxId"),
    not_here("PrcgId"),
    not_here("Prtry"),
]);

/// `TransactionParties6`.
const PARTIES: Content = Content::Sequence(&[
    not_here("InitgPty"),
    maybe("Dbtr", Content::Choice(&[one("Pty", PARTY)])),
    maybe("DbtrAcct", ACCOUNT),
    not_here("UltmtDbtr"),
    maybe("Cdtr", Content::Choice(&[one("Pty", PARTY)])),
    maybe("CdtrAcct", ACCOUNT),
    not_here("UltmtCdtr"),
    not_here("TradgPty"),
    not_here("Prtry"),
]);
