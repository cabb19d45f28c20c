//! The platform in data centers that are separate networks, and what happens when these networks fail.

#![expect(clippy::unwrap_used, reason = "what a test stands on may panic")]

mod faults;
mod partition;
mod wire;

use std::future::Future;

use dujiang_lab::nets::Lab;
use dujiang_testkit::cluster::{Cluster, take_turn};

/// A rate at which every unit is always busy, and a debug build on two cores still has room.
const RATE: u32 = 40;

/// Runs a test of this name inside a laboratory.
fn lab<F: Future<Output = ()>>(name: &str, body: impl FnOnce(Lab) -> F) {
    dujiang_lab::enter::test(name, || {
        let _turn = take_turn().unwrap();
        let lab = Lab::set_up(1).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(body(lab));
    });
}

/// A platform with its control plane in the three data centers, whole.
async fn platform(lab: &Lab) -> Cluster {
    let started = async { Cluster::prepare_in(lab.nets())?.up_ha().await };
    match started.await {
        Ok(cluster) => cluster,
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}
