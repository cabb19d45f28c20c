//! Reads statements, and refuses what does not add up.

use dujiang_types::Money;
use jiff::civil::Date;

use super::summary::Summary;
use super::{Balance, Details, Entry, NAMESPACE, SCHEMA, Statement, Statements, TransactionCode, path_of};
use crate::common::{
    Account, Agent, Coded, Party, absent, open, optional_day, optional_text, read_remittance, required,
    required_moment, required_money, required_text,
};
use crate::fault::{Fault, FaultCode, Faults, Scope};
use crate::schema::check;
use crate::xml::Element;

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
        let summary = Summary::of(&statement.entries);
        if element.child("TxsSummry").is_some_and(|said| !summary.agrees(said)) {
            let path = format!("{}/TxsSummry", path_of(n));
            let detail = "it is not that of the entries".into();
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
