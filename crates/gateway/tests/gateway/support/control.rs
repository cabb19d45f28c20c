//! A control server: the watch of the routing table and the gateways' reports, over real HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use dujiang_identity::{Acceptor, Expect, Role};
use dujiang_routing::RoutingTable;
use dujiang_types::api::GatewayReportRequest;
use dujiang_types::report::GatewayReport;
use http::{Request, Response};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::authority;

pub(crate) struct Control {
    address: SocketAddr,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

struct State {
    table: watch::Sender<RoutingTable>,
    reports: Mutex<Vec<GatewayReport>>,
}

impl Control {
    pub(crate) async fn start(table: RoutingTable) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), table).await
    }

    pub(crate) async fn start_at(address: SocketAddr, table: RoutingTable) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { table: watch::Sender::new(table), reports: Mutex::default() });
        let acceptor =
            Acceptor::new(&authority().identity("control"), Expect::roles(&[Role::Gateway])).unwrap();
        let task = tokio::spawn(serve(listener, acceptor, state.clone()));
        Self { address, state, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn publish(&self, table: RoutingTable) {
        self.state.table.send_replace(table);
    }

    pub(crate) fn reports(&self) -> Vec<GatewayReport> {
        self.state.reports.lock().unwrap().clone()
    }

    /// Dies with all its connections.
    pub(crate) async fn die(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

async fn serve(listener: TcpListener, acceptor: Acceptor, state: Arc<State>) {
    let mut connections = JoinSet::new(); // ended with this task
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (state, acceptor) = (state.clone(), acceptor.clone());
        connections.spawn(async move {
            let Ok((stream, _)) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| answer(request, state.clone()));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type AnswerBody = Either<Full<Bytes>, Stream>;

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<AnswerBody>, Infallible> {
    let path = request.uri().path().to_owned();
    if path == "/v1/routing/watch" {
        let (events, stream) = mpsc::channel(1);
        let mut table = state.table.subscribe();
        tokio::spawn(async move {
            loop {
                let json = serde_json::to_string(&*table.borrow_and_update()).unwrap();
                if events.send(Bytes::from(format!(": hi\n\nevent: table\ndata: {json}\n\n"))).await.is_err()
                {
                    break;
                }
                if table.changed().await.is_err() {
                    break;
                }
            }
        });
        return Ok(Response::new(Either::Right(Stream(stream))));
    }
    let mut response = Response::new(Either::Left(Full::default()));
    if path == "/v1/gateways/a/report" {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let report: GatewayReportRequest = serde_json::from_slice(&body).unwrap();
        state.reports.lock().unwrap().push(report.report);
    } else {
        *response.status_mut() = http::StatusCode::NOT_FOUND;
    }
    Ok(response)
}

struct Stream(mpsc::Receiver<Bytes>);

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
