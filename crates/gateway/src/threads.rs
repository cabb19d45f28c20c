//! The threads of a gateway, and what is heard when one of them ends.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use dujiang_identity::Acceptor;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::admin;
use crate::cores;
use crate::dns;
use crate::error::Error;
use crate::link::Link;
use crate::metrics::Metrics;
use crate::worker;

/// What ends a gateway.
pub(crate) enum Event {
    /// The process was told to stop.
    Signal(io::Result<&'static str>),
    /// A thread has ended: stopped, panicked, or for want of something it cannot do without.
    Ended(String),
}

/// Says that a thread has ended, however it does.
struct Ends {
    name: String,
    told: Sender<Event>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        // Nobody may listen any more: then the gateway itself has ended.
        let _ = self.told.send(Event::Ended(std::mem::take(&mut self.name)));
    }
}

/// Starts a thread that tells when it ends.
pub(crate) fn spawn(
    name: &str,
    told: &Sender<Event>,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, Error> {
    let ends = Ends { name: name.to_owned(), told: told.clone() };
    let builder = std::thread::Builder::new().name(name.to_owned());
    let started = builder.spawn(move || {
        let _ends = ends;
        work();
    });
    started.map_err(|source| Error::Thread { name: name.to_owned(), source })
}

/// Starts a worker thread. The listeners are the one for clients and the one for gateways.
pub(crate) fn worker(
    parts: worker::Parts,
    listeners: [TcpListener; 2],
    told: &Sender<Event>,
) -> Result<JoinHandle<()>, Error> {
    let name = format!("gateway-{}", parts.number);
    let thread = name.clone();
    spawn(&name, told, move || {
        if let Some(core) = parts.core {
            cores::keep_to(core);
        }
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        if let Err(error) = runtime.and_then(|runtime| runtime.block_on(worker::run(parts, listeners))) {
            tracing::error!(thread, %error, "worker ended");
        }
    })
}

/// Starts the thread beside the traffic: the link to control, the probes, and the admin listener.
pub(crate) fn beside(
    link: Arc<Link>,
    (admin, acceptor): (TcpListener, Acceptor),
    metrics: Arc<Metrics>,
    mut stopped: watch::Receiver<bool>,
    told: &Sender<Event>,
) -> Result<JoinHandle<()>, Error> {
    let name = "gateway-link";
    let failed = |source| Error::Thread { name: name.to_owned(), source };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let admin = {
        let _entered = runtime.enter();
        link.start_from_cache();
        tokio::net::TcpListener::from_std(admin).map_err(failed)?
    };
    spawn(name, told, move || {
        runtime.block_on(async {
            tokio::spawn(link.clone().watch());
            for server in 0..link.control.len() {
                tokio::spawn(link.clone().report(server));
            }
            tokio::spawn(admin::serve(admin, acceptor, metrics));
            let _ = stopped.wait_for(|stopped| *stopped).await; // an error means the same
            drop(link); // kept until here: the workers end when nobody can give them a table any more
        });
    })
}

/// Starts the thread that answers customers' DNS: apart from the traffic, so that neither can slow the other.
pub(crate) fn names(
    server: dns::Server,
    mut stopped: watch::Receiver<bool>,
    told: &Sender<Event>,
) -> Result<JoinHandle<()>, Error> {
    let name = "gateway-dns";
    let failed = |source| Error::Thread { name: name.to_owned(), source };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    spawn(name, told, move || {
        runtime.block_on(async {
            tokio::select! {
                () = dns::run(server) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
            // Only with the gateway, which joins its threads.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        });
    })
}

/// Waits until the process is told to stop.
pub(crate) fn wait_for_signal() -> io::Result<&'static str> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        Ok(tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        })
    })
}
