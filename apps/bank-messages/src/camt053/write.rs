//! Writes statements that add up.

use dujiang_types::Money;
use jiff::civil::Date;

use super::summary::Summary;
use super::{Balance, Details, Entry, NAMESPACE, SCHEMA, Statement, Statements, path_of};
use crate::common::{Account, Build, Party, seal, write_remittance};
use crate::fault::{Fault, FaultCode, Faults, Scope};
use crate::xml::Element;

/// Writes statements that add up, with their totals.
pub fn write(message: &Statements) -> Result<Vec<u8>, Faults> {
    let mut body = Build::new("BkToCstmrStmt").push(
        Build::new("GrpHdr").text("MsgId", &message.message_id).text("CreDtTm", message.created).done(),
    );
    for (n, statement) in message.statements.iter().enumerate() {
        statement.add_up(&path_of(n))?;
        body = body.push(write_statement(statement)?);
    }
    seal(NAMESPACE, &SCHEMA, body.done(), |_, _| {})
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
        .push(Summary::of(&statement.entries).write())
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
