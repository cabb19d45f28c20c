//! The control plane: the API over the store, watches, and the controllers that decide about units.
//!
//! Intent comes in through the API and is checked against everything else that is wanted; agents and gateways
//! report what they see; the controller compares the two and changes units' records by compare-and-set. It keeps
//! nothing but what is in the store: killed at any moment, the next one goes on from there.

mod api;
mod births;
mod cell;
mod controller;
pub mod drain;
mod error;
mod evidence;
mod examinations;
#[cfg(test)]
mod fixture;
mod leader;
mod metrics;
mod observed;
mod records;
pub mod restore;
mod retention;
mod routing;
mod server;
mod size;
mod state;
pub mod status;
mod surroundings;
mod tokens;
mod validate;

use std::net::SocketAddr;
use std::sync::Arc;

use dujiang_identity::{Acceptor, Authority, Expect, Identity, Role};
use dujiang_store::Store;
use dujiang_unit::Timing;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

pub use api::Sites;
pub use api::{EvidenceLine, EvidenceList};
pub use api::{TokenList, TokenReply, TokenRequest};
pub use error::Error;
pub use evidence::Signing;
pub use status::Status;
pub use tokens::{JoinToken, Used};

use crate::state::Shared;

/// Who a control server is, and by what it lets others be.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Its own identity.
    pub identity: Identity,
    /// Certifies the processes of the platform.
    pub authority: Arc<Authority>,
    /// Certifies members of the store.
    pub store_authority: Arc<Authority>,
}

impl Trust {
    /// The identity it shows to the members of its store: the same name, certified by the store's authority.
    pub fn for_the_store(&self) -> Result<Identity, Error> {
        Ok(Identity::of_authority(Arc::clone(&self.store_authority), self.identity.name(), &[])?)
    }
}

/// How to run the control plane.
#[derive(Debug)]
pub struct Options {
    /// Identity and authorities.
    pub trust: Trust,
    /// This server's name, by which people tell which of several leads.
    pub name: String,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The store, as [`dujiang_store::open`] understands it: `redb:PATH` or `etcd:URL,URL`.
    pub store: String,
    /// Budgets of the decisions.
    pub timing: Timing,
    /// What reports are signed with.
    pub signing: Signing,
}

/// Runs the control plane until the process is told to end (SIGTERM or SIGINT).
pub async fn serve(options: Options) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    let store = dujiang_store::open(&options.store, &options.trust.for_the_store()?).await?;
    let mut control =
        Control::start(store, options.name, options.listen, options.timing, options.signing, options.trust)
            .await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        error = control.broken() => return Err(error),
    }
    tracing::info!("the control plane ends");
    control.shutdown().await;
    Ok(())
}

/// A running control plane. Dropping it ends it as a crash would.
#[derive(Debug)]
pub struct Control {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
    follower: JoinHandle<dujiang_store::Error>,
    controller: JoinHandle<()>,
    retention: JoinHandle<()>,
    leader: JoinHandle<()>,
    evidence: JoinHandle<()>,
    size: JoinHandle<()>,
}

impl Control {
    /// Starts over a store. Over a shared one several may run: one of them decides, the others listen and follow.
    pub async fn start(
        store: Arc<dyn Store>,
        name: String,
        listen: SocketAddr,
        timing: Timing,
        signing: Signing,
        trust: Trust,
    ) -> Result<Self, Error> {
        // What somebody may do is decided by request.
        let acceptor = Acceptor::new(&trust.identity, Expect::anyone().or(Expect::roles(&[Role::Joiner])))?;
        let bind = |source| Error::Bind { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let shared = Shared::load(store, name, timing, signing, trust).await?;
        let router = api::router(Arc::clone(&shared));
        tracing::info!(%address, "the control plane serves");
        Ok(Self {
            address,
            server: tokio::spawn(server::serve(listener, acceptor, router, Arc::clone(&shared))),
            follower: tokio::spawn(state::follow(Arc::clone(&shared))),
            controller: tokio::spawn(controller::run(Arc::clone(&shared))),
            retention: tokio::spawn(retention::run(Arc::clone(&shared))),
            leader: tokio::spawn(leader::run(Arc::clone(&shared))),
            evidence: tokio::spawn(evidence::run(Arc::clone(&shared))),
            size: tokio::spawn(size::run(Arc::clone(&shared))),
            shared,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves if a part of it has ended that never should.
    pub async fn broken(&mut self) -> Error {
        let task = tokio::select! {
            _ = &mut self.server => "server",
            _ = &mut self.controller => "controller",
            _ = &mut self.retention => "retention",
            _ = &mut self.leader => "leader",
            _ = &mut self.evidence => "evidence",
            _ = &mut self.size => "size",
            error = &mut self.follower => match error {
                Ok(error) => return Error::Store(error),
                Err(_) => "follower",
            },
        };
        Error::Ended { task }
    }

    /// Ends it in order: decisions first, then requests.
    pub async fn shutdown(mut self) {
        self.controller.abort();
        self.follower.abort();
        self.retention.abort();
        self.leader.abort();
        self.evidence.abort();
        self.size.abort();
        self.shared.closing.send_replace(true);
        if let Err(error) = (&mut self.server).await {
            tracing::warn!(%error, "the server did not end in order");
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.controller.abort();
        self.follower.abort();
        self.retention.abort();
        self.leader.abort();
        self.evidence.abort();
        self.size.abort();
        self.server.abort();
    }
}
