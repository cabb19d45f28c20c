//! The control servers as this agent meets them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dujiang_types::api::{AgentReply, AgentReport};
use tokio::sync::watch;
use tokio::time::Instant;

use super::report::describe;

/// A report that takes longer is lost: a lease counts from when it was asked for, and hardly anything of it would be left.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);
/// Reports on their way to one server at once, each on a connection of its own: a packet that is lost holds up all that
/// is sent on its connection, and must not cost a lease. As many as are sent until the first of them is given up.
const REPORTS_MAX: usize = 4;
/// A server that has answered nothing for so long while a report waits may hang: whoever watches it goes elsewhere. Two
/// renewals.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// One control server.
#[derive(Debug)]
pub(super) struct Server {
    /// Its base URL.
    pub(super) url: String,
    /// Reports on their way.
    under_way: AtomicUsize,
    /// Since when a report waits and nothing was answered.
    silent_since: Mutex<Option<Instant>>,
    /// Bumped when reports are not answered, so that a watch leaves a server that hangs.
    failures: watch::Sender<u64>,
}

impl Server {
    pub(super) fn all(urls: &[String]) -> Vec<Arc<Self>> {
        urls.iter().map(|url| Arc::new(Self::new(url.trim_end_matches('/')))).collect()
    }

    fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            under_way: AtomicUsize::new(0),
            silent_since: Mutex::new(None),
            failures: watch::Sender::new(0),
        }
    }

    fn silent_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.silent_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims the server for a report, unless too many are on their way: then a later one says more.
    pub(super) fn claim(&self) -> bool {
        let one_more = |count: usize| (count < REPORTS_MAX).then_some(count + 1);
        let claimed = self.under_way.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_ok();
        if claimed {
            self.silent_since().get_or_insert_with(Instant::now);
        }
        claimed
    }

    /// Sends a report to the server, which was claimed for it.
    pub(super) async fn tell(
        &self,
        client: &reqwest::Client,
        report: &AgentReport,
    ) -> Result<AgentReply, String> {
        let url = format!("{}/v1/agents/{}/report", self.url, report.dc);
        let answer = client.post(url).timeout(REPORT_TIMEOUT).json(report).send().await;
        let left = self.under_way.fetch_sub(1, Ordering::AcqRel) - 1;
        let answer = match answer {
            // A server that answers, even with a refusal, is alive.
            Ok(answer) => {
                *self.silent_since() = (left > 0).then(Instant::now);
                answer
            }
            Err(error) => {
                // One that came too late may have been overtaken by one that was answered.
                if !error.is_timeout() {
                    self.fail();
                }
                return Err(describe(&error));
            }
        };
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("{status}: {}", answer.text().await.unwrap_or_default()));
        }
        answer.json().await.map_err(|error| describe(&error))
    }

    /// Looks whether it has been silent for too long.
    pub(super) fn listen(&self, now: Instant) {
        if self.silent_since().is_some_and(|since| now.saturating_duration_since(since) > SILENCE_MAX) {
            self.fail();
        }
    }

    fn fail(&self) {
        *self.silent_since() = None;
        self.failures.send_modify(|count| *count += 1);
    }

    /// Resolves when reports are not answered.
    pub(super) async fn fails(&self) {
        // An error means that the server is not used any more, which nobody waits for.
        let _ = self.failures.subscribe().changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_waits_does_not_hold_up_the_next_and_only_a_few_wait() {
        let server = Server::new("https://127.0.0.1:1");
        for _ in 0..REPORTS_MAX {
            assert!(server.claim());
        }
        assert!(!server.claim());
    }

    #[test]
    fn a_server_that_answers_nothing_for_long_is_left() {
        let server = Server::new("https://127.0.0.1:1");
        let mut failures = server.failures.subscribe();
        assert!(server.claim());
        server.listen(Instant::now());
        assert!(!failures.has_changed().unwrap());
        let later = Instant::now() + SILENCE_MAX + Duration::from_millis(1);
        server.listen(later);
        assert!(failures.has_changed().unwrap());
        failures.mark_unchanged();
        server.listen(later);
        assert!(!failures.has_changed().unwrap(), "the next report gives it as long again");
    }
}
