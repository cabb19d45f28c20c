//! Customers: outside, and in every data center, where they reach nothing but its own gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use dujiang_testkit::load::{Gateway, Load, LoadError, Patience, Summary};

use crate::case::CaseError;
use crate::nets::{Lab, LabError};

/// Customers of a load who live in the data centers.
#[derive(Debug)]
pub struct Within {
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Result<(), LoadError>, LabError>>>,
}

impl Within {
    /// So many operations a second in each data center, over the gateway there. To a checker they are customers like
    /// those outside: what one of them was told, the others have to find, and the other way round.
    pub fn start(lab: &Lab, load: &Load, gateways: Vec<Gateway>, rate: u32, patience: Patience) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let threads = gateways.into_iter().map(|gateway| {
            let place = Lab::place(gateway.dc.as_str());
            let customers = load.customers(vec![gateway], rate, patience, Arc::clone(&stopping));
            lab.inside(place, move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                // Without a runtime they would all be missing, which nobody would notice.
                runtime
                    .unwrap_or_else(|error| panic!("no runtime for customers: {error}"))
                    .block_on(customers)
            })
        });
        let threads = threads.collect();
        Self { stopping, threads }
    }

    /// Ends them, which takes as long as their patience lasts.
    pub async fn stop(self) -> Result<(), CaseError> {
        self.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let ended = tokio::task::spawn_blocking(move || thread.join()).await;
            match ended {
                Ok(Ok(customers)) => customers??,
                _ => return Err(LoadError::Options("customers in a data center died".to_owned()).into()),
            }
        }
        Ok(())
    }
}

/// What the customers of both applications do.
#[derive(Debug)]
pub struct Loads {
    pub(crate) bank: Load,
    pub(crate) lists: Load,
    pub(crate) within: Within,
}

impl Loads {
    /// Prefix of the keys of payments.
    pub fn run(&self) -> &str {
        self.bank.run()
    }

    /// Payments acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.bank.progress().acknowledged()
    }

    /// Ends them; what payments and transactions came to.
    pub async fn stop(self) -> Result<(Summary, Summary), CaseError> {
        self.within.stop().await?;
        let (bank, lists) = tokio::join!(self.bank.stop(), self.lists.stop());
        Ok((bank?, lists?))
    }
}
