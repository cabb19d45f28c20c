//! The control servers as this agent meets them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dujiang_types::api::{AgentReply, AgentReport};
use tokio::sync::watch;

use super::report::describe;

/// A report that takes longer is lost; the next one says more. Two renewals, so that one slow answer does not cost
/// a lease.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// One control server.
#[derive(Debug)]
pub(super) struct Server {
    /// Its base URL.
    pub(super) url: String,
    /// True while a report is on its way.
    busy: AtomicBool,
    /// Bumped when a report was not answered, so that a watch leaves a server that hangs.
    failures: watch::Sender<u64>,
}

impl Server {
    pub(super) fn all(urls: &[String]) -> Vec<Arc<Self>> {
        let server = |url: &String| {
            let url = url.trim_end_matches('/').to_owned();
            Arc::new(Self { url, busy: AtomicBool::new(false), failures: watch::Sender::new(0) })
        };
        urls.iter().map(server).collect()
    }

    /// Claims the server for a report, unless it has not answered the last one yet: then the next one says more.
    pub(super) fn claim(&self) -> bool {
        !self.busy.swap(true, Ordering::AcqRel)
    }

    /// Sends a report to the server, which was claimed for it.
    pub(super) async fn tell(
        &self,
        client: &reqwest::Client,
        report: &AgentReport,
    ) -> Result<AgentReply, String> {
        let told = self.post(client, report).await;
        self.busy.store(false, Ordering::Release);
        told
    }

    async fn post(&self, client: &reqwest::Client, report: &AgentReport) -> Result<AgentReply, String> {
        let url = format!("{}/v1/agents/{}/report", self.url, report.dc);
        let answer = client.post(url).timeout(REPORT_TIMEOUT).json(report).send().await;
        // A server that answers, even with a refusal, is alive.
        let answer = answer.map_err(|error| {
            self.failures.send_modify(|count| *count += 1);
            describe(&error)
        })?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("{status}: {}", answer.text().await.unwrap_or_default()));
        }
        answer.json().await.map_err(|error| describe(&error))
    }

    /// Resolves when a report is not answered.
    pub(super) async fn fails(&self) {
        // An error means that the server is not used any more, which nobody waits for.
        let _ = self.failures.subscribe().changed().await;
    }
}
