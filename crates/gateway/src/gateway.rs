//! Starting and stopping a gateway.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::thread::JoinHandle;

use dujiang_types::Revision;
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::access_log;
use crate::admin;
use crate::error::Error;
use crate::health::HealthBoard;
use crate::limits::CONNECT_MAX;
use crate::link::Link;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::shard::Counts;
use crate::worker;

/// Connections that may wait to be accepted, per listener: a burst of reconnecting clients.
const BACKLOG: i32 = 1024;

/// A running gateway. Dropping it stops it, as [`stop`](Self::stop) does.
pub struct Gateway {
    addresses: Addresses,
    link: Arc<Link>,
    stop: watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
    beside: Vec<JoinHandle<()>>,
}

/// Where a gateway listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// For clients.
    pub clients: SocketAddr,
    /// For other gateways.
    pub mesh: SocketAddr,
    /// For health checks and metrics.
    pub admin: SocketAddr,
}

impl Gateway {
    /// Starts a gateway; it listens when this returns. With a cached routing table it serves at once.
    pub fn start(options: Options) -> Result<Self, Error> {
        raise_descriptor_limit();
        let threads = options.threads.max(1);
        let control = options.control.iter().map(|url| base_url(url)).collect::<Result<Vec<_>, _>>()?;
        let (clients, clients_address) = listeners(options.listen, threads)?;
        let (mesh, mesh_address) = listeners(options.mesh, threads)?;
        let (mut admin, admin_address) = listeners(options.admin, 1)?;
        let addresses = Addresses { clients: clients_address, mesh: mesh_address, admin: admin_address };
        let counts = Arc::new(Counts::new(threads));
        let health = Arc::new(HealthBoard::default());
        let (table, table_seen) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let client = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_MAX)
            .build()
            .map_err(Error::Client)?;
        let log = access_log::open(&options.access_log, threads).map_err(|source| Error::AccessLog {
            path: match &options.access_log {
                crate::options::AccessLog::File(path) => path.clone(),
                _ => "standard output".into(),
            },
            source,
        })?;
        let mut beside = Vec::new();
        let log = match log {
            None => None,
            Some((queue, write)) => {
                beside.push(spawn("gateway-log".to_owned(), write)?);
                Some(queue)
            }
        };
        let link = Arc::new(Link {
            dc: options.dc,
            control,
            cache: options.cache,
            client,
            table,
            counts: counts.clone(),
            health: health.clone(),
            current: AtomicUsize::new(0),
            suspicion: watch::Sender::new(0),
        });
        let metrics =
            Arc::new(Metrics { counts: counts.clone(), health: health.clone(), table: table_seen.clone() });
        let admin = admin.pop().ok_or_else(|| Error::Stopped { name: "admin".to_owned() })?;
        beside.push(run_beside(link.clone(), admin, metrics, stopped.clone())?);
        let mut workers = Vec::new();
        for (number, listeners) in clients.into_iter().zip(mesh).enumerate() {
            let parts = worker::Parts {
                number,
                threads,
                limits: options.limits.clone(),
                table: table_seen.clone(),
                stop: stopped.clone(),
                counts: counts.clone(),
                health: health.clone(),
                log: log.clone(),
            };
            workers.push(run_worker(parts, [listeners.0, listeners.1])?);
        }
        tracing::info!(dc = %link.dc, clients = %addresses.clients, mesh = %addresses.mesh,
            admin = %addresses.admin, threads, "gateway listens");
        Ok(Self { addresses, link, stop, workers, beside })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Version of the routing table every thread follows; 0 before the first.
    pub fn table_version(&self) -> Revision {
        self.link.counts.adopted_by_all()
    }

    /// Stops taking requests, lets those under way finish for a while, and ends all threads.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        self.stop.send_replace(true);
        for thread in self.workers.drain(..).chain(self.beside.drain(..)) {
            if thread.join().is_err() {
                tracing::error!("a thread of the gateway panicked");
            }
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Runs a gateway until the process is told to stop (SIGTERM or SIGINT), then ends it in order.
pub fn run(options: Options) -> Result<(), Error> {
    let gateway = Gateway::start(options)?;
    let thread = "gateway-signals".to_owned();
    let (told, heard) = mpsc::channel();
    // A thread of its own, so that it does not matter whether the caller is inside a runtime.
    let signals = spawn(thread.clone(), move || {
        let _ = told.send(wait_for_signal());
    })?;
    let result = match heard.recv() {
        Ok(Ok(name)) => {
            tracing::info!(signal = name, "gateway stops");
            Ok(())
        }
        Ok(Err(source)) => Err(Error::Thread { name: thread, source }),
        Err(_) => Err(Error::Stopped { name: thread }),
    };
    gateway.stop();
    let _ = signals.join(); // it has said what it had to say
    result
}

fn wait_for_signal() -> io::Result<&'static str> {
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

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let builder = std::thread::Builder::new().name(name.clone());
    builder.spawn(work).map_err(|source| Error::Thread { name, source })
}

fn run_worker(parts: worker::Parts, listeners: [TcpListener; 2]) -> Result<JoinHandle<()>, Error> {
    let name = format!("gateway-{}", parts.number);
    spawn(name.clone(), move || {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        if let Err(error) = runtime.and_then(|runtime| runtime.block_on(worker::run(parts, listeners))) {
            tracing::error!(thread = name, %error, "worker ended");
        }
    })
}

fn run_beside(
    link: Arc<Link>,
    admin: TcpListener,
    metrics: Arc<Metrics>,
    mut stopped: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, Error> {
    let name = "gateway-link".to_owned();
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Error::Thread { name: name.clone(), source })?;
    let admin = {
        let _entered = runtime.enter();
        link.start_from_cache();
        tokio::net::TcpListener::from_std(admin)
            .map_err(|source| Error::Thread { name: name.clone(), source })?
    };
    spawn(name, move || {
        runtime.block_on(async {
            tokio::spawn(link.clone().watch());
            tokio::spawn(link.report());
            tokio::spawn(admin::serve(admin, metrics));
            let _ = stopped.wait_for(|stopped| *stopped).await;
        });
    })
}

/// As many listeners on one address, among which the kernel spreads connections.
fn listeners(address: SocketAddr, count: usize) -> Result<(Vec<TcpListener>, SocketAddr), Error> {
    let failed = |source| Error::Listen { address, source };
    let first = listener(address, count > 1).map_err(failed)?;
    let bound = first.local_addr().map_err(failed)?;
    let mut all = vec![first];
    for _ in 1..count {
        all.push(listener(bound, true).map_err(failed)?);
    }
    Ok((all, bound))
}

fn listener(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn base_url(url: &str) -> Result<String, Error> {
    let wrong = || Error::ControlUrl { url: url.to_owned() };
    let parsed: http::Uri = url.parse().map_err(|_| wrong())?;
    let whole = parsed.scheme_str().is_some_and(|s| s == "http" || s == "https") && parsed.host().is_some();
    if whole { Ok(url.trim_end_matches('/').to_owned()) } else { Err(wrong()) }
}

/// Each client costs up to two descriptors, far more than the usual soft limit of 1024 allows.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
