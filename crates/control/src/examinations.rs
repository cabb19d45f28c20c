//! Examinations that operators ask for, until the agent they are for has taken them up. In memory of the server that leads
//! only: who asked it asks the next one again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dujiang_types::DcId;
use dujiang_types::api::AgentReport;
use dujiang_types::readiness::{Examine, Examined};

/// An agent is told in the answer to its next report. One that has not begun by then is not heard, or busy.
const BEGIN_MAX: Duration = Duration::from_secs(15);

/// One per data center at most.
#[derive(Debug, Default)]
pub(crate) struct Examinations(BTreeMap<DcId, Asked>);

#[derive(Debug)]
struct Asked {
    order: Examine,
    at: Instant,
}

impl Examinations {
    /// Takes an order, unless the data center has one: then what stands in the way.
    pub(crate) fn ask(
        &mut self,
        dc: &DcId,
        order: Examine,
        latest: Option<&Examined>,
        now: Instant,
    ) -> Result<(), String> {
        if let Some(busy) = latest.filter(|latest| latest.findings.is_none()) {
            return Err(format!("{dc} is examining {}: {}", busy.unit, busy.doing));
        }
        if let Some(asked) = self.0.get(dc).filter(|asked| now.duration_since(asked.at) < BEGIN_MAX) {
            return Err(format!("{dc} is asked to examine {}", asked.order.unit));
        }
        self.0.insert(dc.clone(), Asked { order, at: now });
        Ok(())
    }

    /// What an agent that has reported is to be told. An order it has taken up is forgotten.
    pub(crate) fn order_for(&mut self, report: &AgentReport, now: Instant) -> Option<Examine> {
        let asked = self.0.get(&report.dc)?;
        let begun = report.examined.as_ref().is_some_and(|examined| examined.id == asked.order.id);
        if begun || now.duration_since(asked.at) >= BEGIN_MAX {
            self.0.remove(&report.dc);
            return None;
        }
        Some(asked.order.clone())
    }

    /// How an order stands that no agent has taken up yet.
    pub(crate) fn waiting(&self, id: &str, now: Instant) -> Option<Examined> {
        let waits = |asked: &&Asked| asked.order.id == id && now.duration_since(asked.at) < BEGIN_MAX;
        let asked = self.0.values().find(waits)?;
        let (id, unit) = (asked.order.id.clone(), asked.order.unit.clone());
        Some(Examined { id, unit, doing: "waiting for the agent".to_owned(), findings: None })
    }
}

#[cfg(test)]
mod tests {
    use dujiang_types::readiness::Findings;

    use super::*;
    use crate::fixture::{dc, report};

    fn order(id: &str) -> Examine {
        Examine { id: id.to_owned(), unit: dujiang_types::UnitId::new("unit-1").unwrap(), trial: true }
    }

    fn examined(id: &str, over: bool) -> Examined {
        let findings = over.then(|| Findings { identities: Vec::new(), trial: None });
        Examined { id: id.to_owned(), unit: order(id).unit, doing: "copying".to_owned(), findings }
    }

    #[test]
    fn an_order_is_told_until_it_is_taken_up_and_never_beside_another_one() {
        let (mut all, now) = (Examinations::default(), Instant::now());
        all.ask(&dc("a"), order("x"), None, now).unwrap();
        assert!(all.ask(&dc("a"), order("y"), None, now).is_err(), "x waits");
        all.ask(&dc("b"), order("z"), None, now).unwrap();
        let mut said = report("s", 1);
        assert_eq!(all.order_for(&said, now), Some(order("x")));
        assert_eq!(all.order_for(&said, now), Some(order("x")), "the answer may have been lost");
        assert_eq!(all.waiting("x", now).unwrap().unit, order("x").unit);
        said.examined = Some(examined("x", false));
        assert_eq!(all.order_for(&said, now), None);
        assert_eq!(all.waiting("x", now), None, "from now on the agent tells");
        assert!(all.ask(&dc("a"), order("y"), said.examined.as_ref(), now).is_err(), "x is at work");
        all.ask(&dc("a"), order("y"), Some(&examined("x", true)), now).unwrap();
        // An agent that is not heard does not find an old order when it returns.
        let later = now + BEGIN_MAX;
        assert_eq!(all.waiting("y", later), None);
        assert_eq!(all.order_for(&report("s", 2), later), None);
        all.ask(&dc("b"), order("w"), None, later).unwrap();
    }
}
