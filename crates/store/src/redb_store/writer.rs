//! The one writer of the file: takes what is asked for, as much as is waiting, and commits it together, so that many
//! concurrent writes cost one sync. It also ends leases in time.

use std::sync::Arc;
use std::time::Duration;

use dujiang_types::Revision;
use redb::Database;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

use super::Shared;
use super::leases::Leases;
use super::session::{self, Session};
use super::tables::Stored;
use crate::{Error, LeaseId, Result, Txn, TxnOutcome};

/// Writes waiting for the writer: what one commit takes, so that nobody waits for more than two.
pub(super) const COMMANDS_MAX: usize = 64;

/// A write asked for, and where its answer goes.
#[derive(Debug)]
pub(super) enum Command {
    Transact(Txn, oneshot::Sender<Result<TxnOutcome>>),
    Grant { ttl_seconds: u32, answer: oneshot::Sender<Result<LeaseId>> },
    KeepAlive(LeaseId, oneshot::Sender<Result<()>>),
    Revoke(LeaseId, oneshot::Sender<Result<()>>),
    Compact(Revision, oneshot::Sender<Result<()>>),
}

/// An answer that waits for the commit.
enum Reply {
    Transact(oneshot::Sender<Result<TxnOutcome>>, Result<TxnOutcome>),
    Grant(oneshot::Sender<Result<LeaseId>>, LeaseId),
    Done(oneshot::Sender<Result<()>>, Result<()>),
}

impl Reply {
    fn send(self) {
        // Whoever asked may have gone; the write stands all the same.
        match self {
            Self::Transact(answer, outcome) => drop(answer.send(outcome)),
            Self::Grant(answer, lease) => drop(answer.send(Ok(lease))),
            Self::Done(answer, outcome) => drop(answer.send(outcome)),
        }
    }
}

/// What a commit did.
#[derive(Default)]
struct Applied {
    revision: Revision,
    replies: Vec<Reply>,
    granted: Vec<(LeaseId, u32)>,
    ended: Vec<LeaseId>,
}

/// The writer.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) revision: watch::Sender<Revision>,
    pub(super) leases: Leases,
}

impl Writer {
    /// Runs until the store is dropped or its file fails.
    ///
    /// After a failure nothing more is written or answered: what of the last commit has reached the disk only opening
    /// the file anew can tell.
    pub(super) async fn run(mut self) {
        while let Some(commands) = self.next_commands().await {
            let due = self.leases.due(Instant::now());
            if !due.is_empty() {
                warn!(leases = due.len(), "leases have expired");
            }
            if due.is_empty() && commands.is_empty() {
                continue;
            }
            let shared = Arc::clone(&self.shared);
            let applied = tokio::task::spawn_blocking(move || apply(&shared.database, &due, commands)).await;
            match applied {
                Ok(Ok(applied)) => self.publish(applied),
                Ok(Err(fault)) => return self.fail(Error::unavailable("write its file", fault)),
                Err(panic) => return self.fail(Error::unavailable("write its file", panic)),
            }
        }
    }

    /// Waits for commands or for the next lease to end; returns those that need a commit. `None` once the store was
    /// dropped.
    async fn next_commands(&mut self) -> Option<Vec<Command>> {
        let mut waiting = Vec::new();
        if let Some(deadline) = self.leases.next_deadline() {
            tokio::select! {
                command = self.commands.recv() => self.admit(command?, &mut waiting),
                () = sleep_until(deadline) => {}
            }
        } else {
            let command = self.commands.recv().await?;
            self.admit(command, &mut waiting);
        }
        for _ in 1..COMMANDS_MAX {
            let Ok(command) = self.commands.try_recv() else { break };
            self.admit(command, &mut waiting);
        }
        Some(waiting)
    }

    /// Answers at once what needs no commit.
    fn admit(&mut self, command: Command, waiting: &mut Vec<Command>) {
        if let Command::KeepAlive(lease, answer) = command {
            let alive = self.leases.keep_alive(lease, Instant::now());
            Reply::Done(answer, if alive { Ok(()) } else { Err(Error::LeaseNotFound(lease)) }).send();
        } else {
            waiting.push(command);
        }
    }

    /// Makes known what was committed: first to watchers and readers, then to whom it was answered.
    fn publish(&mut self, applied: Applied) {
        let now = Instant::now();
        for (lease, ttl_seconds) in applied.granted {
            self.leases.insert(lease, Duration::from_secs(ttl_seconds.into()), now);
        }
        for lease in applied.ended {
            self.leases.remove(lease);
        }
        self.revision.send_if_modified(|revision| {
            let newer = *revision < applied.revision;
            *revision = applied.revision;
            newer
        });
        applied.replies.into_iter().for_each(Reply::send);
    }

    fn fail(self, fault: Error) {
        error!(error = &fault as &dyn std::error::Error, "the store's file failed; open the store anew");
        self.shared.fail(fault);
    }
}

fn apply(database: &Database, due: &[LeaseId], commands: Vec<Command>) -> Stored<Applied> {
    let transaction = session::begin(database)?;
    let mut session = Session::open(&transaction)?;
    let mut applied = Applied::default();
    for &lease in due {
        session.end_lease(lease)?;
        applied.ended.push(lease);
    }
    for command in commands {
        carry_out(&mut session, command, &mut applied)?;
    }
    let (revision, dirty) = session.close()?;
    applied.revision = revision;
    if dirty {
        transaction.commit()?;
    } else {
        transaction.abort()?;
    }
    Ok(applied)
}

fn carry_out(session: &mut Session<'_>, command: Command, applied: &mut Applied) -> Stored<()> {
    let reply = match command {
        Command::Transact(txn, answer) => Reply::Transact(answer, session.transact(&txn)?),
        Command::Grant { ttl_seconds, answer } => {
            let lease = session.grant(ttl_seconds)?;
            applied.granted.push((lease, ttl_seconds));
            Reply::Grant(answer, lease)
        }
        Command::Revoke(lease, answer) => {
            let existed = session.end_lease(lease)?;
            applied.ended.push(lease);
            Reply::Done(answer, if existed { Ok(()) } else { Err(Error::LeaseNotFound(lease)) })
        }
        Command::Compact(revision, answer) => Reply::Done(answer, session.compact(revision)?),
        Command::KeepAlive(..) => unreachable!("answered when it was admitted"),
    };
    applied.replies.push(reply);
    Ok(())
}
