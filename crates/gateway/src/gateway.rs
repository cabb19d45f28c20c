//! Starting and stopping a gateway.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::thread::JoinHandle;

use dujiang_identity::{Acceptor, Connector, Expect, Identity, Role};
use dujiang_types::Revision;
use tokio::sync::watch;

use crate::access_log::{self, AccessLogQueue};
use crate::answers::{self, AnswerQueue};
use crate::cores;
use crate::dns;
use crate::error::Error;
use crate::health::HealthBoard;
use crate::limits::CONNECT_MAX;
use crate::link::Link;
use crate::listen;
use crate::metrics::Metrics;
use crate::options::{AccessLog, Options};
use crate::shard::Counts;
use crate::threads::{self, Event};
use crate::worker::{self, Peers};

/// A running gateway. Dropping it stops it, as [`stop`](Self::stop) does.
pub struct Gateway {
    addresses: Addresses,
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    told: mpsc::Sender<Event>,
    heard: mpsc::Receiver<Event>,
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

/// The sockets of a gateway.
struct Sockets {
    clients: Vec<TcpListener>,
    mesh: Vec<TcpListener>,
    admin: TcpListener,
    addresses: Addresses,
}

impl Sockets {
    fn open(options: &Options, threads: usize) -> Result<Self, Error> {
        let (admin, admin_address) = listen::exclusive(options.admin)?;
        let (clients, clients_address) = listen::shared(options.listen, threads)?;
        let (mesh, mesh_address) = listen::shared(options.mesh, threads)?;
        let addresses = Addresses { clients: clients_address, mesh: mesh_address, admin: admin_address };
        Ok(Self { clients, mesh, admin, addresses })
    }
}

impl Gateway {
    /// Starts a gateway; it listens when this returns. With a cached routing table it serves at once.
    pub fn start(options: Options) -> Result<Self, Error> {
        listen::raise_descriptor_limit();
        let threads = options.threads.max(1);
        let sockets = Sockets::open(&options, threads)?;
        let (stop, stopped) = watch::channel(false);
        let (told, heard) = mpsc::channel();
        let counts = Arc::new(Counts::new(threads));
        let health = Arc::new(HealthBoard::default());
        let (table, table_seen) = watch::channel(None);
        let (directory, directory_seen) = watch::channel(None);
        // Whatever fails from here on, dropping this ends what was started.
        let mut gateway =
            Self { addresses: sockets.addresses, counts, stop, threads: Vec::new(), told, heard };
        let log = gateway.start_log(&options.access_log, threads)?;
        let peers = Peers {
            instances: Connector::new(&options.identity, expect_instances(&options.identity))?,
            gateways: Connector::new(&options.identity, Expect::roles(&[Role::Gateway]))?,
            mesh: Acceptor::new(
                &options.identity,
                Expect::roles(&[Role::Gateway]).or(expect_instances(&options.identity)),
            )?,
        };
        let admin = Acceptor::new(&options.identity, Expect::anyone())?;
        let answers = gateway.start_answers(options.answers.as_deref(), threads)?;
        let link = Arc::new(Link {
            control: options.control.iter().map(|url| base_url(url)).collect::<Result<_, _>>()?,
            client: http_client(&options.identity, Expect::roles(&[Role::Control]))?,
            probe: http_client(&options.identity, expect_instances(&options.identity))?,
            table,
            directory,
            counts: gateway.counts.clone(),
            health: health.clone(),
            current: AtomicUsize::new(0),
            suspicion: watch::Sender::new(0),
            dc: options.dc.clone(),
            cache: options.cache,
        });
        let (counts, seen) = (gateway.counts.clone(), table_seen.clone());
        let metrics = Arc::new(Metrics { counts, health: health.clone(), table: seen });
        let server = dns::Server {
            here: options.dc,
            host: options.listen.ip(),
            directory: directory_seen,
            client: http_client(&options.identity, Expect::roles(&[Role::Gateway]))?,
        };
        gateway.threads.push(threads::names(server, stopped.clone(), &gateway.told)?);
        let beside = threads::beside(link, (sockets.admin, admin), metrics, stopped.clone(), &gateway.told)?;
        gateway.threads.push(beside);
        let cores = cores::for_each_of(threads);
        for (number, (clients, mesh)) in sockets.clients.into_iter().zip(sockets.mesh).enumerate() {
            let parts = worker::Parts {
                number,
                threads,
                core: cores.get(number).copied(),
                limits: options.limits.clone(),
                peers: peers.clone(),
                table: table_seen.clone(),
                stop: stopped.clone(),
                counts: gateway.counts.clone(),
                health: health.clone(),
                log: log.clone(),
                answers: answers.clone(),
            };
            gateway.threads.push(threads::worker(parts, [clients, mesh], &gateway.told)?);
        }
        let Addresses { clients, mesh, admin } = gateway.addresses;
        tracing::info!(%clients, %mesh, %admin, threads, "gateway listens");
        Ok(gateway)
    }

    fn start_log(&mut self, log: &AccessLog, threads: usize) -> Result<Option<AccessLogQueue>, Error> {
        let opened = access_log::open(log, threads).map_err(|source| {
            let path =
                if let AccessLog::File(path) = log { path.clone() } else { PathBuf::from("/dev/stdout") };
            Error::AccessLog { path, source }
        })?;
        let Some((queue, write)) = opened else { return Ok(None) };
        self.threads.push(threads::spawn("gateway-log", &self.told, write)?);
        Ok(Some(queue))
    }

    fn start_answers(&mut self, path: Option<&Path>, threads: usize) -> Result<Option<AnswerQueue>, Error> {
        let Some(path) = path else { return Ok(None) };
        let opened = answers::open(path, threads);
        let (queue, write) = opened.map_err(|source| Error::AccessLog { path: path.to_owned(), source })?;
        self.threads.push(threads::spawn("gateway-answers", &self.told, write)?);
        Ok(Some(queue))
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Version of the routing table every thread follows; 0 before the first.
    pub fn table_version(&self) -> Revision {
        self.counts.adopted_by_all()
    }

    /// Stops taking requests, lets those under way finish for a while, and ends all threads.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        self.stop.send_replace(true);
        // Workers first: only when their queues are gone the thread of the log can end.
        for thread in self.threads.drain(..).rev() {
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

/// Runs a gateway until the process is told to stop (SIGTERM or SIGINT), then ends it in order. An error if it
/// cannot start, or if one of its threads ends: then it is better started anew than left with half its threads.
pub fn run(options: Options) -> Result<(), Error> {
    let gateway = Gateway::start(options)?;
    let name = "gateway-signals";
    let told = gateway.told.clone();
    // A thread of its own, so that it does not matter whether the caller is inside a runtime. It is not joined:
    // if no signal ever comes it ends with the process.
    threads::spawn(name, &gateway.told, move || {
        let _ = told.send(Event::Signal(threads::wait_for_signal())); // unheard only if all is over
    })?;
    let result = match gateway.heard.recv() {
        Ok(Event::Signal(Ok(signal))) => {
            tracing::info!(signal, "gateway stops");
            Ok(())
        }
        Ok(Event::Signal(Err(source))) => Err(Error::Thread { name: name.to_owned(), source }),
        Ok(Event::Ended(name)) => Err(Error::Stopped { name }),
        Err(mpsc::RecvError) => Err(Error::Stopped { name: name.to_owned() }),
    };
    gateway.stop();
    result
}

/// Applications of one's own data center.
fn expect_instances(own: &Identity) -> Expect {
    let applications = Expect::roles(&[Role::Application]);
    match own.name().dc() {
        Some(dc) => applications.within(dc),
        None => applications,
    }
}

fn http_client(identity: &Identity, expect: Expect) -> Result<reqwest::Client, Error> {
    let client = dujiang_identity::http_client(identity, expect)?;
    client.connect_timeout(CONNECT_MAX).build().map_err(Error::Client)
}

fn base_url(url: &str) -> Result<String, Error> {
    let wrong = || Error::ControlUrl { url: url.to_owned() };
    let parsed: http::Uri = url.parse().map_err(|_| wrong())?;
    let whole = parsed.scheme_str().is_some_and(|s| s == "https") && parsed.host().is_some();
    if whole { Ok(url.trim_end_matches('/').to_owned()) } else { Err(wrong()) }
}
