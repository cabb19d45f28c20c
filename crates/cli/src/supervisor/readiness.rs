//! From nothing to serving: resources are put, and everything that has to be ready is waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use dujiang_control::Status;
use dujiang_types::unit::Phase;
use dujiang_types::{DcId, Kind, UnitId};
use serde::Serialize;

use crate::client::Client;
use crate::commands::apply::Intent;
use crate::failure::Failure;
use crate::manifest::Manifest;
use crate::view::join;

/// Between two looks while something is starting.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Makes the control plane want what the manifest says. Idempotent.
pub async fn apply(client: &Client, manifest: &Manifest) -> Result<(), Failure> {
    // Each kind refers to the ones before it.
    for (name, spec) in &manifest.data_centers {
        put(client, Kind::DataCenter, name.as_str(), spec).await?;
    }
    for (name, spec) in &manifest.applications {
        put(client, Kind::Application, name.as_str(), spec).await?;
    }
    for (name, spec) in &manifest.units {
        put(client, Kind::Unit, name.as_str(), spec).await?;
    }
    Ok(())
}

async fn put(client: &Client, kind: Kind, name: &str, spec: &impl Serialize) -> Result<(), Failure> {
    let intent = Intent { labels: BTreeMap::new(), spec };
    client.put(kind, name, &intent, None).await.map(drop).map_err(|failure| {
        let why = failure.message();
        Failure::usage(format!("{} is not accepted: {why}", kind.key(name)))
            .hint("what exists already can only be changed within limits: see the message, or start from empty data (`dujiang down --purge`)")
    })
}

/// What is not ready yet, in one sentence; `None` if everything of the manifest serves.
pub fn missing(manifest: &Manifest, status: &Status, is_off: impl Fn(&DcId) -> bool) -> Option<String> {
    let on = |dc: &&DcId| !is_off(dc);
    let agents =
        manifest.data_centers.keys().filter(on).filter(|dc| !status.agents.get(*dc).is_some_and(|a| a.known));
    let agents = join(agents);
    if !agents.is_empty() {
        return Some(format!("waiting for the agents of {agents}"));
    }
    let units: Vec<String> = manifest.units.keys().filter_map(|unit| not_serving(unit, status)).collect();
    if !units.is_empty() {
        return Some(format!("waiting for {}", units.join("; ")));
    }
    let mut instances = Vec::new();
    for dc in manifest.data_centers.keys().filter(on) {
        let seen = status.agents.get(dc).map(|agent| &agent.instances);
        let ready = |name: &str| {
            seen.is_some_and(|seen| seen.iter().any(|(n, i)| of_application(n, name) && i.ready))
        };
        let apps = manifest.applications.iter().filter(|(_, app)| app.data_centers.contains(dc));
        let names = apps.map(|(name, _)| name.as_str()).chain(["gateway"]);
        instances.extend(names.filter(|name| !ready(name)).map(|name| format!("{name} in {dc}")));
        let routes = status
            .gateways
            .get(dc)
            .and_then(|g| g.report.as_ref())
            .is_some_and(|r| r.table >= status.routing);
        if !routes {
            instances.push(format!("the routing table in {dc}"));
        }
    }
    (!instances.is_empty()).then(|| format!("waiting for {}", instances.join(", ")))
}

/// Instances are named after their application, with a number if there are several.
fn of_application(instance: &str, application: &str) -> bool {
    let rest = instance.strip_prefix(application);
    rest.is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('-').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    })
}

fn not_serving(unit: &UnitId, status: &Status) -> Option<String> {
    let Some(view) = status.units.get(unit) else { return Some(format!("{unit} to be known")) };
    match view.unit.status.phase {
        Phase::Serving => None,
        _ if view.waiting.is_empty() => Some(format!("{unit} ({})", view.unit.status.phase)),
        _ => Some(format!("{unit} ({}: {})", view.unit.status.phase, view.waiting)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_told_apart_from_applications_with_longer_names() {
        assert!(
            of_application("bank", "bank")
                && of_application("bank-0", "bank")
                && of_application("bank-12", "bank")
        );
        assert!(!of_application("bank-loans", "bank") && !of_application("ban", "bank"));
    }
}
