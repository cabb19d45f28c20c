//! Rules of `pacs.008` over several elements, which a schema cannot say.

use dujiang_types::{Currency, Money};

use crate::Terms;
use crate::common::{optional_day, optional_money};
use crate::fault::{Fault, FaultCode, Scope};
use crate::schema::Verdict;
use crate::totals::{Seen, Totals, judge_agents, judge_named};
use crate::xml::Element;

const ROOT: &str = "/Document/FIToFICstmrCdtTrf";

/// Judges a message; days only when there are terms to judge them by.
pub(super) fn judge(body: &Element, terms: Option<Terms>, verdict: &mut Verdict) {
    let Some(header) = body.child("GrpHdr") else { return };
    let totals = Totals::of(body.each("CdtTrfTxInf"), &["IntrBkSttlmAmt"]);
    let path = format!("{ROOT}/GrpHdr");
    totals.check(header, &path, Scope::Message, verdict);
    judge_total(body, header, verdict);
    judge_settlement(header, verdict);
    judge_agents(header, &["InstgAgt", "InstdAgt"], &path, Scope::Message, verdict);
    if let Some((code, detail)) =
        optional_day(header, "IntrBkSttlmDt").and_then(|day| terms?.judge_settlement(day))
    {
        verdict.push(Fault { path: format!("{path}/IntrBkSttlmDt"), code, detail, scope: Scope::Message });
    }
    let mut seen = Seen::default();
    for (n, transfer) in body.each("CdtTrfTxInf").enumerate() {
        let path = format!("{ROOT}/CdtTrfTxInf[{}]", n + 1);
        let scope = Scope::Transfer(0, n);
        seen.check(transfer, &path, scope, verdict);
        judge_transfer(transfer, header, terms, &path, scope, verdict);
    }
}

/// `TtlIntrBkSttlmAmt` is the sum of the transfers, which must be of its currency then.
fn judge_total(body: &Element, header: &Element, verdict: &mut Verdict) {
    let Some(total) = optional_money(header, "TtlIntrBkSttlmAmt") else { return };
    let amounts =
        || body.each("CdtTrfTxInf").filter_map(|transfer| optional_money(transfer, "IntrBkSttlmAmt"));
    let fault = |code, detail| Fault {
        path: format!("{ROOT}/GrpHdr/TtlIntrBkSttlmAmt"),
        code,
        detail,
        scope: Scope::Message,
    };
    let is_other = |currency: Currency| currency != total.currency;
    if let Some(other) = amounts().map(|amount| amount.currency).find(|currency| is_other(*currency)) {
        let detail = format!("the total is in {}, a transfer in {other}", total.currency);
        verdict.push(fault(FaultCode::CurrencyMixed, detail));
    } else if Money::checked_sum(total.currency, amounts()) != Ok(total) {
        let detail = format!("the amounts do not add up to {total}");
        verdict.push(fault(FaultCode::SumMismatch, detail));
    }
}

fn judge_settlement(header: &Element, verdict: &mut Verdict) {
    let Some(settlement) = header.child("SttlmInf") else { return };
    let clearing = settlement.text_at(&["SttlmMtd"]) == Some("CLRG");
    let (name, detail) = if clearing {
        ("SttlmAcct", "a clearing system settles, and no account")
    } else {
        ("ClrSys", "the method of settlement has no clearing system")
    };
    if settlement.child(name).is_some() {
        verdict.push(Fault {
            path: format!("{ROOT}/GrpHdr/SttlmInf/{name}"),
            code: FaultCode::RuleBroken,
            detail: detail.into(),
            scope: Scope::Message,
        });
    }
}

fn judge_transfer(
    transfer: &Element,
    header: &Element,
    terms: Option<Terms>,
    path: &str,
    scope: Scope,
    verdict: &mut Verdict,
) {
    let agents = ["InstgAgt", "InstdAgt", "IntrmyAgt1", "DbtrAgt", "CdtrAgt"];
    judge_agents(transfer, &agents, path, scope, verdict);
    judge_named(transfer, "Dbtr", path, scope, verdict);
    judge_named(transfer, "Cdtr", path, scope, verdict);
    let mut tell = |name: &str, code, detail: String| {
        verdict.push(Fault { path: format!("{path}/{name}"), code, detail, scope });
    };
    for name in ["InstgAgt", "InstdAgt", "IntrBkSttlmDt", "PmtTpInf"] {
        if transfer.child(name).is_some() && header.child(name).is_some() {
            tell(name, FaultCode::RuleBroken, "the header says it already, for all".into());
        }
    }
    if transfer.child("IntrBkSttlmDt").is_none() && header.child("IntrBkSttlmDt").is_none() {
        tell("IntrBkSttlmDt", FaultCode::ElementMissing, "neither the header nor the transfer has it".into());
    }
    if let Some((code, detail)) =
        optional_day(transfer, "IntrBkSttlmDt").and_then(|day| terms?.judge_settlement(day))
    {
        tell("IntrBkSttlmDt", code, detail);
    }
    let settled = optional_money(transfer, "IntrBkSttlmAmt");
    if let (Some(settled), Some(instructed)) = (settled, optional_money(transfer, "InstdAmt"))
        && settled.currency != instructed.currency
    {
        let detail = "another currency than the settled one: payments are not exchanged here".into();
        tell("InstdAmt", FaultCode::CurrencyMixed, detail);
    }
}
