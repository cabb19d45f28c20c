//! Reports in their order: each names the one before it, so one that was taken out or put in is noticed.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Envelope, EnvelopeError, PublicKey, Report};

/// What is wrong with a set of reports.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// One of them proves nothing.
    #[error("{id}: {source}")]
    Report {
        /// What it is called where it is kept.
        id: String,
        /// Why.
        #[source]
        source: EnvelopeError,
    },
    /// It is kept under another name than its own.
    #[error("what is kept as {kept} is the report {id}")]
    Renamed {
        /// Where it is kept.
        kept: String,
        /// What it says itself.
        id: String,
    },
    /// One refers to a report that was changed afterwards.
    #[error("{id} was written after another {previous} than the one that is here")]
    Changed {
        /// The later one.
        id: String,
        /// The earlier one.
        previous: String,
    },
    /// More than one is the first, or follows the same.
    #[error("{one} and {two} both follow {previous}")]
    Forked {
        /// One of them.
        one: String,
        /// The other.
        two: String,
        /// Whom they follow: `nothing that is here` for two that are first.
        previous: String,
    },
}

/// Checks reports by the names they are kept under; returns them in their order. The oldest may follow one that is
/// no longer kept; all others have to follow one another without a gap.
pub fn check(envelopes: &BTreeMap<String, Envelope>, keys: &[PublicKey]) -> Result<Vec<Report>, ChainError> {
    let mut reports = BTreeMap::new();
    for (kept, envelope) in envelopes {
        let report = |source| ChainError::Report { id: kept.clone(), source };
        let opened = envelope.open(keys).map_err(report)?;
        if opened.id != *kept {
            return Err(ChainError::Renamed { kept: kept.clone(), id: opened.id });
        }
        reports.insert(kept.clone(), (opened, envelope.bytes().map_err(report)?));
    }
    let mut next: BTreeMap<Option<String>, String> = BTreeMap::new();
    for (id, (report, _)) in &reports {
        let mut previous = None;
        if let Some(link) = &report.previous
            && let Some((_, bytes)) = reports.get(&link.id)
        {
            if !link.digest.fits(bytes) {
                return Err(ChainError::Changed { id: id.clone(), previous: link.id.clone() });
            }
            previous = Some(link.id.clone());
        }
        if let Some(other) = next.insert(previous.clone(), id.clone()) {
            let previous = previous.unwrap_or_else(|| "nothing that is here".to_owned());
            return Err(ChainError::Forked { one: other, two: id.clone(), previous });
        }
    }
    Ok(in_order(next, reports))
}

fn in_order(
    mut next: BTreeMap<Option<String>, String>,
    mut reports: BTreeMap<String, (Report, Vec<u8>)>,
) -> Vec<Report> {
    let mut ordered = Vec::new();
    let mut seen = BTreeSet::new();
    let mut at = None;
    while let Some(id) = next.remove(&at).filter(|id| seen.insert(id.clone())) {
        ordered.extend(reports.remove(&id).map(|(report, _)| report));
        at = Some(id);
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::tests::report;
    use crate::{Link, Signer, Suite};

    /// Four reports, each after the one before; the second half in the national suite: a platform that changed.
    fn four(first: &Signer, second: &Signer) -> BTreeMap<String, Envelope> {
        let mut envelopes = BTreeMap::new();
        let mut previous = None;
        for (id, signer) in [("d", first), ("b", first), ("c", second), ("a", second)] {
            let envelope = Envelope::seal(&Report { previous, ..report(id) }, signer).unwrap();
            previous = Some(Link { id: id.to_owned(), digest: envelope.digest(signer.suite()).unwrap() });
            envelopes.insert(id.to_owned(), envelope);
        }
        envelopes
    }

    #[test]
    fn a_chain_is_read_in_its_order_and_a_gap_is_noticed() {
        let (one, two) = (Signer::generate(Suite::International), Signer::generate(Suite::National));
        let keys = [one.public(), two.public()];
        let all = four(&one, &two);
        let ids = |all: &BTreeMap<_, _>| {
            check(all, &keys).map(|reports| reports.into_iter().map(|r| r.id).collect::<Vec<_>>())
        };
        assert_eq!(ids(&all).unwrap(), ["d", "b", "c", "a"]);
        assert!(matches!(check(&all, &keys[..1]), Err(ChainError::Report { .. })));

        let mut pruned = all.clone();
        pruned.remove("d");
        assert_eq!(ids(&pruned).unwrap(), ["b", "c", "a"], "the oldest need not be kept");

        let mut gap = all.clone();
        gap.remove("c");
        assert!(matches!(ids(&gap), Err(ChainError::Forked { .. })));

        let mut renamed = all.clone();
        let taken = renamed.remove("a").unwrap();
        renamed.insert("e".to_owned(), taken);
        assert!(matches!(ids(&renamed), Err(ChainError::Renamed { .. })));

        // Even who has the key cannot change what later ones refer to.
        let mut changed = all.clone();
        let mut other = changed["b"].read().unwrap();
        other.asked_by = "somebody else".to_owned();
        changed.insert("b".to_owned(), Envelope::seal(&other, &one).unwrap());
        assert!(matches!(ids(&changed), Err(ChainError::Changed { .. })));
        assert_eq!(ids(&BTreeMap::new()).unwrap(), [""; 0]);
    }
}
