//! Keeping a process running: adopt or start, watch, start again.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{Process, Spec, log};

/// First pause before a process that ended is started again; doubled each time it ends soon.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause: a person repairing the cause sees the effect soon.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A process that ran this long has started well; the pause begins small again.
const STARTED_WELL: Duration = Duration::from_secs(30);
/// Between two looks at the readiness URL.
const READY_EVERY: Duration = Duration::from_millis(500);
/// While it is not ready yet: often, a waiting start shows.
const READY_EVERY_STARTING: Duration = Duration::from_millis(50);
/// A readiness URL that takes longer is not ready.
const READY_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks at the size of the log.
const ROTATE_EVERY: Duration = Duration::from_secs(10);
/// Grace for a process whose specification has changed.
const REPLACE_GRACE: Duration = Duration::from_secs(10);

/// How a kept process stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Process id, if it runs.
    pub pid: Option<i32>,
    /// True if it runs and its readiness URL answered 200 when last asked.
    pub ready: bool,
    /// Times it was started by this keeper; 0 if it was adopted and has run since.
    pub starts: u32,
    /// What it is doing, or why it is not ready.
    pub note: String,
}

/// Keeps one process running until told to stop. Dropping the keeper leaves the process running, to be adopted.
#[derive(Debug)]
pub struct Keeper {
    status: watch::Receiver<Status>,
    stop: mpsc::Sender<(Duration, oneshot::Sender<()>)>,
}

impl Keeper {
    /// Begins. `client` asks the readiness URL.
    pub fn start(spec: Spec, client: reqwest::Client) -> Self {
        let (sender, status) = watch::channel(Status { note: "starting".to_owned(), ..Status::default() });
        let (stop, stops) = mpsc::channel(1);
        let keep = Keep { spec, client, status: sender, backoff: BACKOFF_MIN };
        tokio::spawn(keep.run(stops));
        Self { status, stop }
    }

    /// How it stands now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// To wait for changes.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Ends the process: `SIGTERM`, and `SIGKILL` to its group after `grace`. Returns when it is gone.
    pub async fn stop(self, grace: Duration) {
        let (done, gone) = oneshot::channel();
        if self.stop.send((grace, done)).await.is_ok() {
            let _ = gone.await;
        }
    }
}

struct Keep {
    spec: Spec,
    client: reqwest::Client,
    status: watch::Sender<Status>,
    backoff: Duration,
}

type Stops = mpsc::Receiver<(Duration, oneshot::Sender<()>)>;

impl Keep {
    async fn run(mut self, mut stops: Stops) {
        let mut adopted = self.adopt().await;
        loop {
            let process = adopted.take().or_else(|| self.launch());
            let ended = match &process {
                Some(process) => {
                    tokio::select! {
                        () = self.attend(process) => true,
                        stop = stops.recv() => return self.finish(stop, Some(process)).await,
                    }
                }
                None => false,
            };
            if ended {
                tracing::warn!(
                    process = self.spec.name,
                    note = self.status.borrow().note,
                    "a process has ended"
                );
            }
            tokio::select! {
                () = sleep(self.backoff) => {}
                stop = stops.recv() => return self.finish(stop, None).await,
            }
            self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// `None` as stop means that the keeper was dropped: the process is left to the next agent.
    async fn finish(&self, stop: Option<(Duration, oneshot::Sender<()>)>, process: Option<&Process>) {
        let Some((grace, done)) = stop else { return };
        if let Some(process) = process
            && let Err(error) = process.stop(grace).await
        {
            tracing::error!(process = self.spec.name, %error, source = %error.source, "a process does not stop");
        }
        if let Err(error) = crate::files::remove_file(&self.spec.record) {
            tracing::warn!(process = self.spec.name, %error, "a process record cannot be removed");
        }
        self.status.send_replace(Status { note: "stopped".to_owned(), ..Status::default() });
        let _ = done.send(());
    }

    async fn adopt(&self) -> Option<Process> {
        match Process::adopt(&self.spec.record) {
            Ok(Some(process)) if process.fingerprint() == self.spec.fingerprint() => {
                tracing::info!(process = self.spec.name, pid = process.pid(), "adopted");
                Some(process)
            }
            Ok(Some(process)) => {
                tracing::info!(
                    process = self.spec.name,
                    pid = process.pid(),
                    "replacing: its specification changed"
                );
                if let Err(error) = process.stop(REPLACE_GRACE).await {
                    tracing::error!(process = self.spec.name, %error, "the replaced process does not stop");
                }
                None
            }
            Ok(None) => None,
            Err(error) => {
                tracing::error!(process = self.spec.name, %error, "cannot look for an earlier process");
                None
            }
        }
    }

    fn launch(&mut self) -> Option<Process> {
        match Process::start(&self.spec) {
            Ok(process) => {
                self.status.send_modify(|status| {
                    status.pid = Some(process.pid());
                    status.starts += 1;
                    "started".clone_into(&mut status.note);
                });
                Some(process)
            }
            Err(error) => {
                tracing::error!(process = self.spec.name, %error, source = %error.source, "cannot start a process");
                let note = format!("{error}: {}", error.source);
                self.status
                    .send_modify(|status| (status.pid, status.ready, status.note) = (None, false, note));
                None
            }
        }
    }

    /// Watches readiness and log until the process ends.
    async fn attend(&mut self, process: &Process) {
        let began = Instant::now();
        self.status.send_modify(|status| status.pid = Some(process.pid()));
        let mut rotate = interval(ROTATE_EVERY);
        rotate.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let exit = loop {
            tokio::select! {
                exit = process.wait() => break exit,
                () = self.look() => {}
                _ = rotate.tick() => self.rotate().await,
            }
        };
        if began.elapsed() >= STARTED_WELL {
            self.backoff = BACKOFF_MIN;
        }
        self.status
            .send_modify(|status| (status.pid, status.ready, status.note) = (None, false, exit.to_string()));
    }

    /// One look at readiness, and the pause after it.
    async fn look(&self) {
        let (ready, note) = match &self.spec.ready {
            None => (true, "running".to_owned()),
            Some(url) => match self.client.get(url).timeout(READY_TIMEOUT).send().await {
                Ok(answer) if answer.status().is_success() => (true, "ready".to_owned()),
                Ok(answer) => (false, format!("{url} answered {}", answer.status())),
                Err(error) if error.is_timeout() => (false, format!("{url} does not answer")),
                Err(_) => (false, format!("{url} cannot be reached")),
            },
        };
        self.status.send_if_modified(|status| {
            let changed = status.ready != ready || status.note != note;
            (status.ready, status.note) = (ready, note);
            changed
        });
        sleep(if ready { READY_EVERY } else { READY_EVERY_STARTING }).await;
    }

    async fn rotate(&self) {
        let path: PathBuf = self.spec.log.clone();
        let rotated = tokio::task::spawn_blocking(move || log::rotate(&path)).await;
        if let Ok(Err(error)) = rotated {
            tracing::warn!(process = self.spec.name, %error, "the log cannot be rotated");
        }
    }
}
