//! One worker thread: its own listeners, connections, pools and view of the routing table.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use dujiang_identity::{Acceptor, Connector, Role};
use dujiang_routing::decision::Compiled;
use dujiang_routing::{Place, Refusal, Target as RoutingTarget};
use dujiang_types::api::{HEADER_EPOCH, HEADER_UNIT};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use crate::access_log::AccessLogQueue;
use crate::answers::AnswerQueue;
use crate::body::Budget;
use crate::client::{ClientIo, ClientState, ClientStream};
use crate::health::HealthBoard;
use crate::hygiene::Vetted;
use crate::limits::{DRAIN_MAX, HEAD_BYTES_MAX, TICK};
use crate::options::Limits;
use crate::proxy;
use crate::shard::{Counts, InFlight, Shard, ThreadCounts, Waiting};
use crate::turn;
use crate::upstream::Target;

/// The time, as of the last tick.
pub(crate) struct Clock(Cell<Instant>);

impl Clock {
    pub(crate) fn now(&self) -> Instant {
        self.0.get()
    }
}

/// What a worker is made of.
pub(crate) struct Parts {
    pub(crate) number: usize,
    /// The core it keeps to, if any.
    pub(crate) core: Option<usize>,
    pub(crate) limits: Limits,
    pub(crate) peers: Peers,
    pub(crate) threads: usize,
    pub(crate) table: watch::Receiver<Option<Arc<Compiled>>>,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) health: Arc<HealthBoard>,
    pub(crate) log: Option<AccessLogQueue>,
    pub(crate) answers: Option<AnswerQueue>,
}

/// Whom a worker talks to, and who talks to it.
#[derive(Clone)]
pub(crate) struct Peers {
    /// To instances.
    pub(crate) instances: Connector,
    /// To other gateways.
    pub(crate) gateways: Connector,
    /// From other gateways.
    pub(crate) mesh: Acceptor,
}

/// A worker thread's state.
pub(crate) struct Worker {
    pub(crate) limits: Limits,
    peers: Peers,
    pub(crate) budget: Budget,
    pub(crate) counts: Arc<ThreadCounts>,
    pub(crate) log: Option<AccessLogQueue>,
    pub(crate) answers: Option<AnswerQueue>,
    /// Wakes what waits for a new table.
    pub(crate) changed: Notify,
    view: RefCell<Option<Rc<View>>>,
    number: usize,
    connections_max: usize,
    all_counts: Arc<Counts>,
    health: Arc<HealthBoard>,
    targets: RefCell<HashMap<SocketAddr, Rc<Target>>>,
    clients: RefCell<HashMap<u64, Rc<ClientState>>>,
    clients_made: Cell<u64>,
    /// Wakes the listeners when a connection is gone.
    room: Notify,
    clock: Rc<Clock>,
    stopping: Cell<bool>,
    random: Cell<u64>,
}

/// The routing table with this thread's counters and pools beside each unit.
pub(crate) struct View {
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) units: Vec<UnitView>,
    pub(crate) applications: Vec<ApplicationView>,
}

/// A unit in a view.
pub(crate) struct UnitView {
    pub(crate) shard: Arc<Shard>,
    pub(crate) waiting: Arc<Waiting>,
    /// The header lines that tell an instance unit and epoch.
    pub(crate) identity: Vec<u8>,
    /// The gateway at home, if that is elsewhere.
    pub(crate) mesh: Option<Rc<Target>>,
}

/// An application's instances in a view.
pub(crate) struct ApplicationView {
    instances: Vec<Rc<Target>>,
    next: Cell<usize>,
}

impl ApplicationView {
    /// The instances, each once, starting with the next one in turn.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = &Rc<Target>> {
        let first = self.next.get();
        self.next.set(first.wrapping_add(1));
        let count = self.instances.len();
        (0..count).map(move |step| &self.instances[first.wrapping_add(step) % count])
    }
}

impl View {
    /// Whom a request is for.
    pub(crate) fn target(&self, request: &Vetted<'_>) -> Result<RoutingTarget, Refusal> {
        self.compiled.target(request.path, |name| request.header(name))
    }
}

impl Worker {
    fn new(parts: Parts) -> Rc<Self> {
        let per_thread = |all: usize| all.div_ceil(parts.threads);
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        Rc::new(Self {
            budget: Budget::new(per_thread(parts.limits.buffered_bytes_max)),
            connections_max: per_thread(parts.limits.connections_max).max(1),
            limits: parts.limits,
            peers: parts.peers,
            counts: parts.counts.threads[parts.number].clone(),
            log: parts.log,
            answers: parts.answers,
            changed: Notify::new(),
            view: RefCell::default(),
            number: parts.number,
            all_counts: parts.counts,
            health: parts.health,
            targets: RefCell::default(),
            clients: RefCell::default(),
            clients_made: Cell::default(),
            room: Notify::new(),
            clock: Rc::new(Clock(Cell::new(Instant::now()))),
            stopping: Cell::default(),
            random: Cell::new(high ^ low),
        })
    }

    /// The table this thread follows.
    pub(crate) fn view(&self) -> Option<Rc<View>> {
        self.view.borrow().clone()
    }

    /// True if this still is the table this thread follows.
    pub(crate) fn follows(&self, view: &Rc<View>) -> bool {
        self.view.borrow().as_ref().is_some_and(|current| Rc::ptr_eq(current, view))
    }

    /// True once the gateway shall take no more requests.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Counts a request of a unit as under way.
    pub(crate) fn in_flight(&self, shard: &Arc<Shard>) -> InFlight {
        InFlight::new(shard, &self.all_counts.news)
    }

    /// Random enough for trace ids: splitmix64 from a random seed.
    pub(crate) fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn adopt(&self, compiled: Arc<Compiled>) {
        let version = compiled.version;
        let view = Rc::new(self.view_of(compiled));
        // Connections to who is no longer in the table go; an exchange under way keeps its target alive.
        let in_use = |target: &Rc<Target>| Rc::strong_count(target) > 1;
        self.view.replace(Some(view));
        self.targets.borrow_mut().retain(|_, target| in_use(target));
        self.counts.adopt(version);
        self.changed.notify_waiters();
        self.all_counts.news.send_replace(());
    }

    fn view_of(&self, compiled: Arc<Compiled>) -> View {
        let units = compiled.units.iter().map(|unit| {
            let counts = self.all_counts.of(&unit.unit);
            let shard = counts.shards[self.number].clone();
            shard.holding.store(unit.place == Place::Hold, Ordering::Relaxed);
            shard.turn.routed(unit.epoch, unit.place != Place::Hold, turn::wall_us);
            let mesh = match unit.place {
                Place::Mesh { address, .. } => Some(self.reach(address, false)),
                Place::Here | Place::Hold => None,
            };
            let identity = format!("{HEADER_UNIT}: {}\r\n{HEADER_EPOCH}: {}\r\n", unit.unit, unit.epoch);
            UnitView { shard, waiting: counts.waiting, identity: identity.into_bytes(), mesh }
        });
        let units = units.collect();
        let applications = compiled.applications.iter().map(|application| ApplicationView {
            instances: application.instances.iter().map(|address| self.reach(*address, true)).collect(),
            next: Cell::new(self.number),
        });
        let applications = applications.collect();
        View { compiled, units, applications }
    }

    fn reach(&self, address: SocketAddr, instance: bool) -> Rc<Target> {
        let mut targets = self.targets.borrow_mut();
        let connector = if instance { &self.peers.instances } else { &self.peers.gateways };
        let health = || instance.then(|| self.health.of(address));
        let make = || Rc::new(Target::new(address, health(), connector.clone()));
        targets.entry(address).or_insert_with(make).clone()
    }

    fn admit(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr, secured: bool) {
        // An answer is written in one piece: waiting for more would only delay it.
        if stream.set_nodelay(true).is_err() {
            return; // it is gone already
        }
        let number = self.clients_made.get();
        self.clients_made.set(number + 1);
        let client = Rc::new(ClientState::new(peer, &self.clock));
        self.clients.borrow_mut().insert(number, client.clone());
        self.counts.connections_total.add(1);
        let served = Served { worker: self.clone(), number };
        let task = tokio::task::spawn_local(serve(served, stream, client.clone(), secured));
        client.served_by(task.abort_handle());
    }

    /// Ends what takes too long; called every tick.
    fn sweep(&self) {
        let now = Instant::now();
        self.clock.0.set(now);
        let clients = self.clients.borrow();
        for client in clients.values() {
            if client.expire(now, &self.limits) {
                self.counts.expired.add(1);
            }
        }
        self.counts.connections.set(clients.len() as u64);
        let idle: usize = self.targets.borrow().values().map(|target| target.expire_idle(now)).sum();
        self.counts.pool_idle.set(idle as u64);
    }

    /// Makes room by ending the connection that has idled longest.
    fn evict(&self) {
        let clients = self.clients.borrow();
        if let Some(client) = clients.values().filter(|c| c.is_idle()).min_by_key(|c| c.since()) {
            client.end();
        }
    }

    fn has_room(&self) -> bool {
        self.clients.borrow().len() < self.connections_max
    }
}

/// A connection being served, in the worker's books until dropped.
struct Served {
    worker: Rc<Worker>,
    number: u64,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.worker.clients.borrow_mut().remove(&self.number);
        self.worker.room.notify_waiters();
    }
}

async fn serve(served: Served, stream: TcpStream, client: Rc<ClientState>, secured: bool) {
    let worker = served.worker.clone();
    let stream = if secured {
        // Cut like an unfinished head if it takes too long.
        match worker.peers.mesh.accept(stream).await {
            Ok((stream, peer)) => {
                // An application is a client like any other: its requests have come no way yet.
                if peer.name.role() == Role::Gateway {
                    client.is_proven_gateway();
                }
                ClientStream::Secure(Box::new(stream))
            }
            Err(error) => {
                tracing::debug!(peer = %client.peer, %error, "a connection is refused");
                return;
            }
        }
    } else {
        ClientStream::Plain(stream)
    };
    let io = TokioIo::new(ClientIo::new(stream, client.clone()));
    let service = service_fn(|request| proxy::serve(worker.clone(), client.clone(), request));
    let served_all = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .header_read_timeout(None) // the sweep does it
        .serve_connection(io, service)
        .await;
    if let Err(error) = served_all {
        tracing::debug!(peer = %client.peer, %error, "connection ended with an error");
    }
    if client.was_malformed() {
        worker.counts.malformed.add(1);
    }
    drop(served);
}

async fn accept(worker: Rc<Worker>, listener: TcpListener, secured: bool) {
    loop {
        while !worker.has_room() {
            worker.evict();
            // New idlers to evict may come up without anybody leaving.
            let _ = tokio::time::timeout(TICK, worker.room.notified()).await;
        }
        match listener.accept().await {
            Ok((stream, peer)) => worker.admit(stream, peer, secured),
            Err(error) => {
                // Out of file descriptors, mostly: trying again at once would only burn the processor.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(TICK).await;
            }
        }
    }
}

/// Runs a worker until it is told to stop. The listeners are the one for customers and the one for gateways and
/// applications.
pub(crate) async fn run(parts: Parts, listeners: [std::net::TcpListener; 2]) -> std::io::Result<()> {
    let [clients, mesh] = listeners;
    let (mut table, mut stop) = (parts.table.clone(), parts.stop.clone());
    let worker = Worker::new(parts);
    let listeners = [(clients, false), (mesh, true)].map(|(listener, secured)| {
        let worker = worker.clone();
        TcpListener::from_std(listener).map(|l| tokio::task::spawn_local(accept(worker, l, secured)))
    });
    let [clients, mesh] = listeners;
    let listeners = [clients?, mesh?];
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let newest = table.borrow_and_update().clone();
        if let Some(newest) = newest.filter(|newest| newest.version != worker.counts.adopted()) {
            worker.adopt(newest);
        }
        tokio::select! {
            changed = table.changed() => if changed.is_err() { break },
            _ = stop.changed() => break,
            _ = tick.tick() => worker.sweep(),
        }
    }
    for listener in &listeners {
        listener.abort();
    }
    drain(&worker).await;
    Ok(())
}

/// Lets requests under way finish, for a while.
async fn drain(worker: &Worker) {
    worker.stopping.set(true);
    let until = Instant::now() + DRAIN_MAX;
    while !worker.clients.borrow().is_empty() && Instant::now() < until {
        for client in worker.clients.borrow().values().filter(|client| client.is_idle()) {
            client.end();
        }
        let _ = tokio::time::timeout(TICK, worker.room.notified()).await;
    }
}
