//! The HTTP server of an application: what every application answers, and the bounds around what it answers.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use dujiang_database::Tls;
use dujiang_identity::{Acceptor, Expect, Identity, Name, Role};
use dujiang_types::Code;
use futures_util::FutureExt;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

use crate::application::Application;
use crate::background::supervise;
use crate::context::{Surroundings, enter};
use crate::failure::Failure;
use crate::message;
use crate::metrics::{Metrics, RequestLabels};
use crate::problem::Rejection;
use crate::relay::http_client;
use crate::secret::Secret;
use crate::units::{Units, UnitsError};

/// Requests served at once. What the database can do at once is far less; the rest waits for a session a moment.
const REQUESTS_MAX: usize = 512;
/// Connections open at once: gateways keep pools, and there are a few of them.
const CONNECTIONS_MAX: usize = 1_024;
/// How long an idle connection, or an unfinished header, is kept. Longer than gateways keep idle connections, so
/// that it is they who close them and no request meets a closing connection.
const HEADER_TIME_MAX: Duration = Duration::from_secs(75);
/// Buffer of a connection; bounds its header.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Backstop: more than all inner bounds together, so that normally they speak first.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// How long requests under way may take to end at shutdown.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);
/// Pause after a failed accept, which happens when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How an instance is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The units file.
    pub units: PathBuf,
    /// File with the platform's secret.
    pub secret: PathBuf,
    /// File with the instance's identity.
    pub identity: PathBuf,
}

/// Why an instance could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The secret cannot be read.
    #[error("cannot read the secret's file {path}")]
    Secret {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The units file cannot be used.
    #[error(transparent)]
    Units(#[from] UnitsError),
    /// The address cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The identity cannot be used.
    #[error("the identity cannot be used")]
    Identity(#[from] dujiang_identity::Error),
    /// The identity is nobody's who runs in a data center.
    #[error("{0} is of no data center")]
    Nowhere(Name),
    /// No HTTP client.
    #[error("cannot make an HTTP client")]
    Client(#[from] reqwest::Error),
}

/// An instance that is bound and not running yet.
pub struct Server<A> {
    app: Arc<A>,
    listener: TcpListener,
    acceptor: Acceptor,
    around: Surroundings,
    http: reqwest::Client,
}

impl<A: Application> Server<A> {
    /// Reads secret and units file and binds the address.
    pub async fn bind(app: A, options: &Options) -> Result<Self, StartError> {
        let secret = Secret::read(&options.secret)
            .map_err(|source| StartError::Secret { path: options.secret.clone(), source })?;
        let identity = Identity::from_file(&options.identity)?;
        let dc = identity.name().dc().ok_or_else(|| StartError::Nowhere(identity.name().clone()))?;
        // Databases admit who is named like their role.
        let role = identity.name().within_role().unwrap_or(A::NAME);
        let units = Units::open(&options.units, secret, Tls::new(&identity, dc)?, role, A::NAME)?;
        let address = options.listen;
        let listener =
            TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })?;
        // Its data center's gateway, and the agent, which asks whether it is ready.
        let callers = Expect::roles(&[Role::Gateway, Role::Agent]).within(dc);
        let acceptor = Acceptor::new(&identity, callers)?;
        let around = Surroundings { units, metrics: Arc::new(Metrics::default()) };
        let http = http_client(&identity, dc)?;
        Ok(Self { app: Arc::new(app), listener, acceptor, around, http })
    }

    /// The address bound.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` resolves, then lets requests under way end.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let stopping = Arc::new(AtomicBool::new(false));
        let router = router(&self.app, &self.around, &stopping);
        // Dropped with this future, however that ends.
        let mut background = JoinSet::new();
        background.spawn(supervise(self.app, self.around, self.http));
        accept(self.listener, self.acceptor, router, shutdown, &stopping).await;
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: Acceptor,
    router: Router,
    shutdown: impl Future<Output = ()>,
    stopping: &AtomicBool,
) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            let permit = Arc::clone(&connections).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (watcher, acceptor, router) = (graceful.watcher(), acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    let _permit = permit;
                    match secured(stream, &acceptor).await {
                        // What goes wrong on a connection is the peer's business; its requests were answered or not.
                        Ok(stream) => drop(watcher.watch(connection(stream, router)).await),
                        Err(error) => tracing::debug!(%error, "a connection is refused"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    stopping.store(true, Ordering::Release);
    drop(listener);
    if tokio::time::timeout(DRAIN_TIME_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests under way did not end in time");
    }
}

async fn secured(stream: TcpStream, acceptor: &Acceptor) -> std::io::Result<TlsStream<TcpStream>> {
    // Answers are small; without this each would wait for the peer's delayed acknowledgement.
    stream.set_nodelay(true)?;
    Ok(acceptor.accept(stream).await?.0)
}

fn connection(
    stream: TlsStream<TcpStream>,
    router: Router,
) -> http1::Connection<TokioIo<TlsStream<TcpStream>>, TowerToHyperService<Router>> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}

/// What the bounds around requests need.
#[derive(Clone)]
struct Bounds {
    metrics: Arc<Metrics>,
    requests: Arc<Semaphore>,
}

fn router<A: Application>(app: &Arc<A>, around: &Surroundings, stopping: &Arc<AtomicBool>) -> Router {
    let messages =
        Router::new().route("/v1/messages/{to}", post(message::receive::<A>)).with_state(Arc::clone(app));
    let bounds =
        Bounds { metrics: Arc::clone(&around.metrics), requests: Arc::new(Semaphore::new(REQUESTS_MAX)) };
    let document = Arc::new(app.openapi());
    let (metrics, stopping) = (Arc::clone(&around.metrics), Arc::clone(stopping));
    let unit_routes = app
        .unit_routes()
        .merge(messages)
        .route_layer(from_fn_with_state(around.clone(), enter))
        .route_layer(from_fn_with_state(bounds.clone(), bounded));
    Router::new()
        .merge(unit_routes)
        .route("/healthz", get(|| async { Json(serde_json::json!({"healthy": true})) }))
        .route("/readyz", get(move || async move { ready(&stopping) }))
        .route("/metrics", get(move || async move { scrape(&metrics) }))
        .route("/openapi.json", get(move || async move { Json((*document).clone()) }))
        .fallback(|| async { Rejection::new(Code::RouteUnknown, "see /openapi.json for what there is") })
        .method_not_allowed_fallback(|| async {
            Rejection::new(Code::MethodNotAllowed, "see /openapi.json for what there is")
        })
        .layer(from_fn_with_state(bounds, observed))
}

fn ready(stopping: &AtomicBool) -> Response {
    // Listening, and the units file was read: otherwise we would not be here.
    let ready = !stopping.load(Ordering::Acquire);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(serde_json::json!({"ready": ready}))).into_response()
}

fn scrape(metrics: &Metrics) -> Response {
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, media_type)], metrics.text()).into_response()
}

/// Outermost layer: counts, times, and turns a panic into an answer.
async fn observed(State(bounds): State<Bounds>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let response = answered.unwrap_or_else(|_| {
        // The panic hook has logged what and where. A transaction dropped by it is rolled back, but its commit may
        // have been under way.
        Rejection::new(Code::Internal, "the outcome is not known").into_response()
    });
    bounds.metrics.seconds.observe(begun.elapsed().as_secs_f64());
    // A method from outside could be any text: only the usual ones become labels.
    let usual = [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::HEAD, Method::PATCH];
    let method = if usual.contains(&method) { method.to_string() } else { "other".to_owned() };
    let labels = RequestLabels { method, route, status: response.status().as_u16() };
    bounds.metrics.requests.get_or_create(&labels).inc();
    response
}

/// Bounds number and time of requests to units. Health checks are outside: they must answer under load.
async fn bounded(State(bounds): State<Bounds>, request: Request, next: Next) -> Response {
    let Ok(_permit) = bounds.requests.try_acquire() else {
        let failure = Failure::not_done(Code::Overloaded, "this instance serves as many requests as it can");
        return Rejection::from(failure).into_response();
    };
    let write = request.method() != Method::GET;
    let answered = tokio::time::timeout(REQUEST_TIME_MAX, next.run(request)).into_future().await;
    answered.unwrap_or_else(|_| {
        let code = if write { Code::OutcomeUnknown } else { Code::Overloaded };
        Rejection::new(code, "the request took too long").into_response()
    })
}
