//! Rules over several elements, which a schema cannot say: counts and sums, identifiers that are there twice, banks and
//! parties that nothing names.

use std::collections::HashSet;

use crate::common::Agent;
use crate::fault::{Fault, FaultCode, Scope, shown};
use crate::schema::Verdict;
use crate::value::ExactDecimal;
use crate::xml::Element;

/// How many transfers there are and what their amounts add up to; `None` if one of them is no number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Totals {
    count: usize,
    sum: Option<ExactDecimal>,
}

impl Totals {
    /// Of no transfer.
    pub(crate) const NONE: Self = Self { count: 0, sum: Some(ExactDecimal::ZERO) };

    /// Of transfers whose amounts are at a path. Currencies are added as they are: that is what a control sum is.
    pub(crate) fn of<'a>(transfers: impl Iterator<Item = &'a Element>, amount: &[&str]) -> Self {
        transfers.fold(Self::NONE, |totals, transfer| {
            let amount = transfer.text_at(amount).and_then(ExactDecimal::parse);
            totals.and(Self { count: 1, sum: amount })
        })
    }

    /// Of both.
    pub(crate) fn and(self, other: Self) -> Self {
        let sum = self.sum.zip(other.sum).and_then(|(a, b)| a.checked_add(b));
        Self { count: self.count + other.count, sum }
    }

    /// Holds `NbOfTxs` and `CtrlSum` of a header against them.
    pub(crate) fn check(self, header: &Element, path: &str, scope: Scope, verdict: &mut Verdict) {
        if let Some(said) = header.text_at(&["NbOfTxs"]).and_then(|text| text.parse::<u64>().ok())
            && said != self.count as u64
        {
            let detail = format!("{said} transfers are announced, {} are there", self.count);
            verdict.push(Fault {
                path: format!("{path}/NbOfTxs"),
                code: FaultCode::CountMismatch,
                detail,
                scope,
            });
        }
        if let Some(said) = header.text_at(&["CtrlSum"]).and_then(ExactDecimal::parse)
            && self.sum != Some(said)
        {
            let detail = match self.sum {
                Some(sum) => format!("the control sum is {said}, the amounts add up to {sum}"),
                None => "the amounts cannot be added up: one of them is no number".into(),
            };
            verdict.push(Fault {
                path: format!("{path}/CtrlSum"),
                code: FaultCode::SumMismatch,
                detail,
                scope,
            });
        }
    }
}

/// The sum of amounts of whatever currency, as a control sum is; none if it has more digits than the schema lets one
/// have: it is optional.
pub(crate) fn sum(amounts: &[ExactDecimal]) -> Option<ExactDecimal> {
    let sum = amounts.iter().try_fold(ExactDecimal::ZERO, |sum, amount| sum.checked_add(*amount))?;
    sum.is_decimal_number().then_some(sum)
}

/// What ISO 20022 has for an end-to-end identification that nobody gave: it is no identifier.
const NOT_PROVIDED: &str = "NOTPROVIDED";

/// Identifiers seen so far in a message, by element.
#[derive(Debug, Default)]
pub(crate) struct Seen<'a>(HashSet<(&'static str, &'a str)>);

impl<'a> Seen<'a> {
    /// Looks at the identifiers of a transfer: the second transfer with one of them is at fault, not the first.
    pub(crate) fn check(&mut self, transfer: &'a Element, path: &str, scope: Scope, verdict: &mut Verdict) {
        for name in ["InstrId", "EndToEndId", "TxId", "UETR"] {
            let Some(id) = transfer.text_at(&["PmtId", name]) else { continue };
            if id != NOT_PROVIDED && !self.0.insert((name, id)) {
                verdict.push(Fault {
                    path: format!("{path}/PmtId/{name}"),
                    code: FaultCode::IdentifierDuplicate,
                    detail: format!("{} is another transfer's already", shown(id)),
                    scope,
                });
            }
        }
    }
}

/// A bank must be named, and by China's clearing number in its form.
pub(crate) fn judge_agents(
    parent: &Element,
    names: &[&str],
    path: &str,
    scope: Scope,
    verdict: &mut Verdict,
) {
    for name in names {
        let Some(Ok(agent)) = parent.child(name).map(Agent::read) else { continue };
        let path = format!("{path}/{name}/FinInstnId");
        if agent.is_anonymous() {
            let detail = "nothing says which bank it is".into();
            verdict.push(Fault { path, code: FaultCode::AgentIdentifier, detail, scope });
        } else if agent.has_malformed_cnaps() {
            let detail = "a number of CNAPS has 12 digits".into();
            let path = format!("{path}/ClrSysMmbId/MmbId");
            verdict.push(Fault { path, code: FaultCode::AgentIdentifier, detail, scope });
        }
    }
}

/// A party that money goes to or comes from must have a name.
pub(crate) fn judge_named(parent: &Element, name: &str, path: &str, scope: Scope, verdict: &mut Verdict) {
    if let Some(party) = parent.child(name)
        && party.child("Nm").is_none()
    {
        let detail = "who it is must be said by name".into();
        verdict.push(Fault {
            path: format!("{path}/{name}/Nm"),
            code: FaultCode::ElementMissing,
            detail,
            scope,
        });
    }
}
