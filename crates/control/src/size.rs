//! The size alarm: the store must not be full before anybody knew.

use std::sync::Arc;
use std::time::Duration;

use dujiang_store::Size;

use crate::error::chain;
use crate::state::Shared;
use crate::status::StoreView;

/// How often the store is measured. It grows by some KiB in this time.
const EVERY: Duration = Duration::from_secs(10);
/// From this part of its quota on people are warned: at the pace of a busy platform that leaves weeks.
const WARN_PERCENT: u64 = 60;
const WHAT_TO_DO: &str =
    "make room with `dujiang store compact`, and look what fills it (`dujiang get operations`)";

/// Measures the store, for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = measure(&shared).await {
            tracing::debug!(error = chain(&error), "the store cannot be measured");
        }
    }
}

/// Measures the store once; says so if the alarm has changed.
pub(crate) async fn measure(shared: &Shared) -> dujiang_store::Result<()> {
    let size = shared.store().size().await?;
    let view = StoreView { bytes: size.bytes, quota_bytes: size.quota_bytes, alarm: alarm(&size) };
    let before = shared.size.send_replace(Some(view.clone()));
    let rang = before.is_some_and(|before| before.alarm.is_some());
    match &view.alarm {
        Some(alarm) if !rang => {
            tracing::error!(bytes = view.bytes, quota = view.quota_bytes, alarm, "store size");
        }
        None if rang => tracing::info!(bytes = view.bytes, "the store has room again"),
        _ => {}
    }
    Ok(())
}

/// What is wrong with the size and what to do, if anything is.
fn alarm(size: &Size) -> Option<String> {
    let mib = |bytes: u64| bytes >> 20;
    if !size.alarms.is_empty() {
        let names = size.alarms.join(", ");
        return Some(format!(
            "etcd has raised {names} and takes no writes, so nothing can be decided: {WHAT_TO_DO}"
        ));
    }
    let percent = size.bytes.saturating_mul(100) / size.quota_bytes.max(1);
    (percent >= WARN_PERCENT).then(|| {
        let (bytes, quota) = (mib(size.bytes), mib(size.quota_bytes));
        format!("the store takes {bytes} of {quota} MiB ({percent} %); when it is full nothing can be decided: {WHAT_TO_DO}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rings_before_the_store_is_full_and_when_etcd_says_so() {
        let size = |mib: u64, alarms: &[&str]| Size {
            bytes: mib << 20,
            quota_bytes: 512 << 20,
            alarms: alarms.iter().map(|&alarm| alarm.to_owned()).collect(),
        };
        assert_eq!(alarm(&size(0, &[])), None);
        assert_eq!(alarm(&size(307, &[])), None);
        assert!(alarm(&size(308, &[])).unwrap().contains("308 of 512 MiB (60 %)"));
        assert!(alarm(&size(700, &[])).unwrap().contains("136 %"));
        assert!(alarm(&size(1, &["NOSPACE"])).unwrap().contains("NOSPACE"));
        assert!(alarm(&Size { bytes: 1, quota_bytes: 0, alarms: vec![] }).is_some(), "no quota is no room");
    }
}
