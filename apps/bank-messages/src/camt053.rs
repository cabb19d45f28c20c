//! `camt.053.001.08`: statements of accounts. A statement that does not add up is neither written nor read.

use dujiang_types::Money;
use jiff::civil::Date;

use crate::common::{
    ACCOUNT_ID, AGENT, Account, Agent, Build, CODED, COUNT, Coded, DAY, ID, MOMENT, PARTY, Party, REMITTANCE,
    SUM, absent, open, optional_day, optional_text, read_remittance, required, required_moment,
    required_money, required_text, seal, write_remittance,
};
use crate::fault::{Fault, FaultCode, Faults, Scope};
use crate::moment::Moment;
use crate::schema::{Content, Part, Value, any, check, maybe, not_here, one, some, text, value};
use crate::totals::sum;
use crate::value::ExactDecimal;
use crate::xml::Element;

/// The message's namespace.
pub const NAMESPACE: &str = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08";

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
    maybe("DbtrAcct", crate::common::ACCOUNT),
    not_here("UltmtDbtr"),
    maybe("Cdtr", Content::Choice(&[one("Pty", PARTY)])),
    maybe("CdtrAcct", crate::common::ACCOUNT),
    not_here("UltmtCdtr"),
    not_here("TradgPty"),
    not_here("Prtry"),
]);

/// A booked balance at the end of a day; below zero what the owner owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// How much.
    pub amount: Money,
    /// On which day.
    pub day: Date,
}

/// What kind of booking it is, by ISO 20022's bank transaction codes: `PMNT` `RCDT` `DMCT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionCode {
    /// Domain: `PMNT` are payments, `ACMT` account management.
    pub domain: String,
    /// Family: `RCDT` are received credit transfers.
    pub family: String,
    /// Sub-family: `DMCT` are domestic ones.
    pub subfamily: String,
}

impl TransactionCode {
    /// A code from its three parts.
    pub fn new(domain: &str, family: &str, subfamily: &str) -> Self {
        Self { domain: domain.into(), family: family.into(), subfamily: subfamily.into() }
    }
}

/// What an entry is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The instructing party's number of the transfer.
    pub instruction_id: Option<String>,
    /// The customer's number of the transfer.
    pub end_to_end_id: Option<String>,
    /// Unique over all banks.
    pub uetr: Option<String>,
    /// The first bank's number of the transfer.
    pub transaction_id: Option<String>,
    /// Who paid.
    pub debtor: Option<Party>,
    /// Where from.
    pub debtor_account: Option<Account>,
    /// To whom.
    pub creditor: Option<Party>,
    /// Where to.
    pub creditor_account: Option<Account>,
    /// What for.
    pub purpose: Option<Coded>,
    /// Lines, at most 140 characters each.
    pub remittance: Vec<String>,
}

/// One booking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number within the statement.
    pub reference: Option<String>,
    /// How much: above zero what the account gained.
    pub amount: Money,
    /// True if it takes another entry back.
    pub reversal: bool,
    /// The business day it belongs to.
    pub booked_on: Date,
    /// From when interest counts it.
    pub value_on: Date,
    /// This bank's number of it: the posting.
    pub servicer_reference: Option<String>,
    /// What kind of booking.
    pub code: TransactionCode,
    /// What it is about.
    pub details: Option<Details>,
    /// In words, at most 500 characters.
    pub info: Option<String>,
}

/// A statement of one account in one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its number.
    pub id: String,
    /// Which one it is of the account's statements, from 1; at most 15 digits.
    pub sequence: Option<u64>,
    /// When it was made.
    pub created: Option<Moment>,
    /// From when to when, both included.
    pub period: Option<(Moment, Moment)>,
    /// Of which account.
    pub account: Account,
    /// Whose it is.
    pub owner: Option<Party>,
    /// Who keeps it.
    pub servicer: Option<Agent>,
    /// Before the first entry.
    pub opening: Balance,
    /// After the last.
    pub closing: Balance,
    /// What happened, in order.
    pub entries: Vec<Entry>,
}

/// The message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statements {
    /// Its number.
    pub message_id: String,
    /// When it was made.
    pub created: Moment,
    /// At least one.
    pub statements: Vec<Statement>,
}

impl Statement {
    /// Opening balance and entries must make the closing balance, all in one currency.
    fn add_up(&self, path: &str) -> Result<(), Fault> {
        let currency = self.opening.amount.currency;
        let fault = |code, detail| Fault { path: path.to_owned(), code, detail, scope: Scope::Message };
        let amounts = self.entries.iter().map(|entry| entry.amount);
        let of_account = self.account.currency.unwrap_or(currency);
        let others = amounts.clone().chain([self.closing.amount]).map(|amount| amount.currency);
        if let Some(other) = others.chain([of_account]).find(|other| *other != currency) {
            let detail = format!("it opens in {currency} and has {other}");
            return Err(fault(FaultCode::CurrencyMixed, detail));
        }
        // In 128 bits: within a sum that ends well an intermediate one may be large.
        let entries: i128 = amounts.map(|amount| i128::from(amount.minor)).sum();
        if i128::from(self.opening.amount.minor) + entries != i128::from(self.closing.amount.minor) {
            let detail = format!(
                "{} and {} entries do not make {}",
                self.opening.amount,
                self.entries.len(),
                self.closing.amount
            );
            return Err(fault(FaultCode::StatementUnbalanced, detail));
        }
        Ok(())
    }
}

fn path_of(n: usize) -> String {
    format!("/Document/BkToCstmrStmt/Stmt[{}]", n + 1)
}

/// Writes statements that add up, with their totals.
pub fn write(message: &Statements) -> Result<Vec<u8>, Faults> {
    let mut body = Build::new("BkToCstmrStmt").push(
        Build::new("GrpHdr").text("MsgId", &message.message_id).text("CreDtTm", message.created).done(),
    );
    for (n, statement) in message.statements.iter().enumerate() {
        statement.add_up(&path_of(n))?;
        body = body.push(write_statement(statement)?);
    }
    seal(NAMESPACE, &SCHEMA, body.done())
}

/// `Amt` without sign and `CdtDbtInd`.
fn signed(build: Build, amount: Money) -> Result<Build, Fault> {
    Ok(build.money("Amt", magnitude(amount)?).text("CdtDbtInd", direction(amount)))
}

fn magnitude(amount: Money) -> Result<Money, Fault> {
    if amount.minor >= 0 {
        return Ok(amount);
    }
    amount.checked_neg().map_err(|_| Fault {
        path: "Amt".into(),
        code: FaultCode::AmountRange,
        detail: amount.to_string(),
        scope: Scope::Message,
    })
}

fn direction(amount: Money) -> &'static str {
    if amount.minor < 0 { "DBIT" } else { "CRDT" }
}

fn write_statement(statement: &Statement) -> Result<Element, Fault> {
    let period = statement
        .period
        .map(|(from, to)| Build::new("FrToDt").text("FrDtTm", from).text("ToDtTm", to).done());
    let account = Build::new("Acct")
        .all(statement.account.parts())
        .maybe(statement.owner.as_ref().map(|owner| owner.write("Ownr")))
        .maybe(statement.servicer.as_ref().map(|servicer| servicer.write("Svcr")))
        .done();
    let entries = statement.entries.iter().map(write_entry).collect::<Result<Vec<_>, _>>()?;
    Ok(Build::new("Stmt")
        .text("Id", &statement.id)
        .maybe_text("ElctrncSeqNb", statement.sequence)
        .maybe_text("CreDtTm", statement.created)
        .maybe(period)
        .push(account)
        .push(write_balance("OPBD", statement.opening)?)
        .push(write_balance("CLBD", statement.closing)?)
        .push(summary(&statement.entries)?)
        .all(entries)
        .done())
}

fn write_balance(code: &str, balance: Balance) -> Result<Element, Fault> {
    let kind = Element::with("CdOrPrtry", vec![Element::leaf("Cd", code)]);
    let build = Build::new("Bal").push(Element::with("Tp", vec![kind]));
    Ok(signed(build, balance.amount)?.push(day("Dt", balance.day)).done())
}

fn day(name: &str, day: Date) -> Element {
    Element::with(name, vec![Element::leaf("Dt", day.to_string())])
}

/// Numbers and sums of the entries: all, those in and those out.
fn summary(entries: &[Entry]) -> Result<Element, Fault> {
    let magnitudes = |wanted: &dyn Fn(&Entry) -> bool| {
        let chosen = entries.iter().filter(|entry| wanted(entry));
        chosen.map(|entry| Ok(ExactDecimal::of(magnitude(entry.amount)?))).collect::<Result<Vec<_>, Fault>>()
    };
    let total = |name: &str, amounts: &[ExactDecimal]| {
        Build::new(name).text("NbOfNtries", amounts.len()).maybe_text("Sum", sum(amounts)).done()
    };
    let all = magnitudes(&|_| true)?;
    let credits = magnitudes(&|entry| entry.amount.minor >= 0)?;
    let debits = magnitudes(&|entry| entry.amount.minor < 0)?;
    Ok(Build::new("TxsSummry")
        .push(total("TtlNtries", &all))
        .push(total("TtlCdtNtries", &credits))
        .push(total("TtlDbtNtries", &debits))
        .done())
}

fn write_entry(entry: &Entry) -> Result<Element, Fault> {
    let code = Build::new("Domn")
        .text("Cd", &entry.code.domain)
        .push(
            Build::new("Fmly").text("Cd", &entry.code.family).text("SubFmlyCd", &entry.code.subfamily).done(),
        )
        .done();
    let details = entry.details.as_ref().map(|details| write_details(details, entry.amount)).transpose()?;
    Ok(signed(Build::new("Ntry").maybe_text("NtryRef", entry.reference.as_ref()), entry.amount)?
        .maybe_text("RvslInd", entry.reversal.then_some(true))
        .push(Element::with("Sts", vec![Element::leaf("Cd", "BOOK")]))
        .push(day("BookgDt", entry.booked_on))
        .push(day("ValDt", entry.value_on))
        .maybe_text("AcctSvcrRef", entry.servicer_reference.as_ref())
        .push(Element::with("BkTxCd", vec![code]))
        .maybe(details.map(|details| Element::with("NtryDtls", vec![details])))
        .maybe_text("AddtlNtryInf", entry.info.as_ref())
        .done())
}

fn write_details(details: &Details, amount: Money) -> Result<Element, Fault> {
    let references = Build::new("Refs")
        .maybe_text("InstrId", details.instruction_id.as_ref())
        .maybe_text("EndToEndId", details.end_to_end_id.as_ref())
        .maybe_text("UETR", details.uetr.as_ref())
        .maybe_text("TxId", details.transaction_id.as_ref())
        .unless_empty();
    let party =
        |name: &str, party: Option<&Party>| party.map(|party| Element::with(name, vec![party.write("Pty")]));
    let account = |name: &str, account: Option<&Account>| account.map(|account| account.write(name));
    let parties = Build::new("RltdPties")
        .maybe(party("Dbtr", details.debtor.as_ref()))
        .maybe(account("DbtrAcct", details.debtor_account.as_ref()))
        .maybe(party("Cdtr", details.creditor.as_ref()))
        .maybe(account("CdtrAcct", details.creditor_account.as_ref()))
        .unless_empty();
    Ok(signed(Build::new("TxDtls").maybe(references), amount)?
        .maybe(parties)
        .maybe(details.purpose.as_ref().map(|purpose| purpose.write("Purp")))
        .maybe(write_remittance(&details.remittance))
        .done())
}

/// Reads statements, and refuses what does not add up.
pub fn read(bytes: &[u8]) -> Result<Statements, Faults> {
    let document = open(bytes, NAMESPACE)?;
    check(&document.root, &SCHEMA).into_result()?;
    let body = required(&document.root, "BkToCstmrStmt")?;
    let header = required(body, "GrpHdr")?;
    let mut statements = Vec::new();
    for (n, element) in body.each("Stmt").enumerate() {
        let statement = read_statement(element)?;
        statement.add_up(&path_of(n))?;
        let written = summary(&statement.entries)?;
        if element.child("TxsSummry").is_some_and(|said| *said != written) {
            let path = format!("{}/TxsSummry", path_of(n));
            let detail = "it is not that of the entries, or has a net amount".into();
            return Err(Fault { path, code: FaultCode::SumMismatch, detail, scope: Scope::Message }.into());
        }
        statements.push(statement);
    }
    Ok(Statements {
        message_id: required_text(header, "MsgId")?,
        created: required_moment(header, "CreDtTm")?,
        statements,
    })
}

fn read_signed(element: &Element) -> Result<Money, Fault> {
    let amount = required_money(element, "Amt")?;
    if element.text_at(&["CdtDbtInd"]) == Some("DBIT") {
        amount.checked_neg().map_err(|_| absent(element, "Amt"))
    } else {
        Ok(amount)
    }
}

fn read_day(element: &Element, name: &str) -> Result<Date, Fault> {
    optional_day(required(element, name)?, "Dt").ok_or_else(|| absent(element, name))
}

fn read_statement(element: &Element) -> Result<Statement, Fault> {
    let account = required(element, "Acct")?;
    let balance = |code: &str| {
        let mut found =
            element.each("Bal").filter(|bal| bal.text_at(&["Tp", "CdOrPrtry", "Cd"]) == Some(code));
        match (found.next(), found.next()) {
            (Some(found), None) => Ok(Balance { amount: read_signed(found)?, day: read_day(found, "Dt")? }),
            _ => Err(absent(element, &format!("Bal with {code}, once"))),
        }
    };
    let period =
        |period: &Element| Ok((required_moment(period, "FrDtTm")?, required_moment(period, "ToDtTm")?));
    Ok(Statement {
        id: required_text(element, "Id")?,
        sequence: element.text_at(&["ElctrncSeqNb"]).and_then(|text| text.parse().ok()),
        created: element.text_at(&["CreDtTm"]).and_then(|text| text.parse().ok()),
        period: element.child("FrToDt").map(period).transpose()?,
        account: Account::read(account)?,
        owner: account.child("Ownr").map(Party::read).transpose()?,
        servicer: account.child("Svcr").map(Agent::read).transpose()?,
        opening: balance("OPBD")?,
        closing: balance("CLBD")?,
        entries: element.each("Ntry").map(read_entry).collect::<Result<_, _>>()?,
    })
}

fn read_entry(element: &Element) -> Result<Entry, Fault> {
    let amount = read_signed(element)?;
    let details = element.child("NtryDtls").and_then(|details| details.child("TxDtls"));
    if let Some(details) = details
        && read_signed(details)? != amount
    {
        return Err(Fault {
            path: "Ntry/NtryDtls/TxDtls/Amt".into(),
            code: FaultCode::SumMismatch,
            detail: "it is not the entry's".into(),
            scope: Scope::Message,
        });
    }
    let domain = required(required(element, "BkTxCd")?, "Domn")?;
    let family = required(domain, "Fmly")?;
    Ok(Entry {
        reference: optional_text(element, "NtryRef"),
        amount,
        reversal: element.text_at(&["RvslInd"]).is_some_and(|flag| matches!(flag, "true" | "1")),
        booked_on: read_day(element, "BookgDt")?,
        value_on: read_day(element, "ValDt")?,
        servicer_reference: optional_text(element, "AcctSvcrRef"),
        code: TransactionCode {
            domain: required_text(domain, "Cd")?,
            family: required_text(family, "Cd")?,
            subfamily: required_text(family, "SubFmlyCd")?,
        },
        details: details.map(read_details).transpose()?,
        info: optional_text(element, "AddtlNtryInf"),
    })
}

fn read_details(element: &Element) -> Result<Details, Fault> {
    let id = |name: &str| element.text_at(&["Refs", name]).map(str::to_owned);
    let parties = element.child("RltdPties");
    let party = |name: &str| {
        let party = parties.and_then(|parties| parties.child(name)?.child("Pty"));
        party.map(Party::read).transpose()
    };
    let account = |name: &str| parties.and_then(|parties| parties.child(name)).map(Account::read).transpose();
    Ok(Details {
        instruction_id: id("InstrId"),
        end_to_end_id: id("EndToEndId"),
        uetr: id("UETR"),
        transaction_id: id("TxId"),
        debtor: party("Dbtr")?,
        debtor_account: account("DbtrAcct")?,
        creditor: party("Cdtr")?,
        creditor_account: account("CdtrAcct")?,
        purpose: element.child("Purp").map(Coded::read).transpose()?,
        remittance: read_remittance(element),
    })
}
