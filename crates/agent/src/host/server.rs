//! The agent's own server: promises for its peers, health, metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Extension, FromRequest, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use dujiang_identity::{Acceptor, Expect, Peer, Role};
use dujiang_types::api::PromiseRequest;
use dujiang_types::error::PROBLEM_MEDIA_TYPE;
use dujiang_types::{Code, Problem};
use prometheus_client::encoding::text::encode;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::known::Known;
use super::listen::{self, Bounds};

/// A promise is asked for in less than two hundred bytes.
const BODY_BYTES_MAX: usize = 4096;
/// How long the body may take to arrive. Who asks gives up after a second.
const BODY_TIME_MAX: Duration = Duration::from_secs(2);
/// Peers are a handful, each with a connection or two, and ask every half second as long as they ask at all. They need
/// their promises well within a lease: what is slower than they are has to make room for them soon.
const BOUNDS: Bounds = Bounds { connections: 64, head: Duration::from_secs(2), age: Duration::from_secs(60) };
/// Pause before a taken address is tried again.
const BIND_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
struct App {
    shared: Arc<Shared>,
    known: watch::Receiver<Known>,
}

/// Serves for ever. The address may still be held by an agent that is just ending.
pub(super) async fn serve(shared: Arc<Shared>, known: watch::Receiver<Known>, address: SocketAddr) {
    // Promises are for agents; metrics may be read by anyone of the platform.
    let acceptor = match Acceptor::new(&shared.options.identity, Expect::anyone()) {
        Ok(acceptor) => acceptor,
        Err(error) => return tracing::error!(%error, "the agent's identity cannot be used to serve"),
    };
    let router = router(App { shared, known });
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!(%address, "serving");
                return listen::serve(listener, acceptor, router, BOUNDS).await;
            }
            Err(error) => tracing::error!(%address, %error, "cannot listen"),
        }
        sleep(BIND_PAUSE).await;
    }
}

fn router(app: App) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .route("/v1/promises", post(promise))
        .fallback(|| async {
            refuse(Problem::new(Code::RouteUnknown, "there are /v1/promises, /healthz and /metrics"))
        })
        .method_not_allowed_fallback(|| async { refuse(Problem::new(Code::MethodNotAllowed, "")) })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(app)
}

async fn promise(State(app): State<App>, Extension(peer): Extension<Peer>, request: Request) -> Response {
    if peer.name.role() != Role::Agent {
        return refuse(Problem::new(Code::Forbidden, format!("{} is no agent", peer.name)));
    }
    let asked = timeout(BODY_TIME_MAX, Json::<PromiseRequest>::from_request(request, &())).await;
    let ask = match asked {
        Ok(Ok(Json(ask))) => ask,
        Ok(Err(wrong)) if wrong.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return refuse(Problem::new(Code::RequestTooLarge, wrong.body_text()));
        }
        Ok(Err(wrong)) => return refuse(Problem::new(Code::RequestInvalid, wrong.body_text())),
        Err(_) => return refuse(Problem::new(Code::RequestIncomplete, "the body took too long to arrive")),
    };
    if peer.name.dc() != Some(&ask.dc) {
        return refuse(Problem::new(Code::Forbidden, format!("{} does not speak for {}", peer.name, ask.dc)));
    }
    let known = app.known.borrow().clone();
    match app.shared.handles().get(&ask.unit) {
        Some(handle) => Json(handle.promise(&known, &ask)).into_response(),
        None => refuse(Problem::new(Code::NotFound, format!("no replica of {} here", ask.unit))),
    }
}

async fn metrics(State(app): State<App>) -> Response {
    app.shared.metrics.take(&app.shared.handles(), &app.known.borrow().clone());
    let mut text = String::new();
    match encode(&mut text, &app.shared.metrics.registry) {
        Ok(()) => {
            ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
                .into_response()
        }
        Err(error) => refuse(Problem::new(Code::Internal, error.to_string())),
    }
}

fn refuse(problem: Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, PROBLEM_MEDIA_TYPE)], Json(problem)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::sync::Mutex;

    use dujiang_identity::Connector;
    use dujiang_identity::plain_http_client;
    use dujiang_identity::testing::TestAuthority;
    use dujiang_types::DcId;
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio_rustls::client::TlsStream;

    use crate::host::Options;

    /// For an answer on a machine that does other things, too.
    const PATIENCE: Duration = Duration::from_secs(30);
    const CONNECTIONS: usize = 2;
    const ASK: &str = r#"{"unit":"unit-1","epoch":1,"dc":"chengdu-2","ttl_ms":2500}"#;

    /// A server of an agent without replicas, that has no patience and room for two.
    async fn server() -> Server {
        let authority = TestAuthority::default();
        let options = Options {
            dc: DcId::new("chengdu-1").unwrap(),
            control: vec![],
            members: BTreeMap::new(),
            identity: authority.identity("dc/chengdu-1/agent"),
            data: PathBuf::new(),
            program: PathBuf::new(),
        };
        let acceptor = Acceptor::new(&options.identity, Expect::anyone()).unwrap();
        let shared = Arc::new(Shared {
            options,
            servers: vec![],
            client: plain_http_client().build().unwrap(),
            promises: plain_http_client().build().unwrap(),
            metrics: crate::host::Metrics::new(),
            handles: Mutex::default(),
            instances: Mutex::default(),
            versions: BTreeMap::new(),
            examiner: crate::host::Examiner::default(),
        });
        let router = router(App { shared, known: watch::channel(Known::default()).1 });
        let bounds = Bounds {
            connections: CONNECTIONS,
            head: Duration::from_millis(200),
            age: Duration::from_secs(1),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(listen::serve(listener, acceptor, router, bounds));
        Server { address, authority }
    }

    struct Server {
        address: SocketAddr,
        authority: TestAuthority,
    }

    impl Server {
        async fn connect(&self, who: &str) -> TlsStream<TcpStream> {
            let to_agents = Expect::roles(&[Role::Agent]);
            let connector = Connector::new(&self.authority.identity(who), to_agents).unwrap();
            let stream = TcpStream::connect(self.address).await.unwrap();
            connector.connect(self.address.ip(), stream).await.unwrap()
        }

        async fn said_by(&self, who: &str, text: &str) -> TlsStream<TcpStream> {
            let mut stream = self.connect(who).await;
            stream.write_all(text.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            stream
        }
    }

    async fn say(server: &Server, text: &str) -> TlsStream<TcpStream> {
        server.said_by("dc/chengdu-2/agent", text).await
    }

    #[tokio::test]
    async fn nobody_gets_a_promise_but_the_agent_who_asks_for_its_own() {
        let server = server().await;
        for who in ["dc/chengdu-2/gateway", "operator/zhang", "control", "dc/chengdu-3/agent"] {
            assert_problem(&hear(server.said_by(who, &ask(ASK, ASK.len())).await).await, Code::Forbidden);
        }
        let metrics = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
        assert!(hear(server.said_by("operator/zhang", metrics).await).await.starts_with("HTTP/1.1 200 "));
        // Without an identity, or with another platform's, there is no answer at all.
        let mut plain = TcpStream::connect(server.address).await.unwrap();
        plain.write_all(ask(ASK, ASK.len()).as_bytes()).await.unwrap();
        assert!(!hear(plain).await.contains("HTTP"));
        let stranger = Server { authority: TestAuthority::default(), ..server };
        let connector = Connector::new(&stranger.authority.identity("dc/chengdu-2/agent"), Expect::anyone());
        let stream = TcpStream::connect(stranger.address).await.unwrap();
        assert!(connector.unwrap().connect(stranger.address.ip(), stream).await.is_err());
    }

    /// What the server says until it closes.
    async fn hear(mut stream: impl AsyncRead + Unpin) -> String {
        let mut bytes = Vec::new();
        let heard = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
        // It may close without a word.
        drop(heard.expect("the server neither answers nor closes"));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn ask(body: &str, length: usize) -> String {
        let head = "POST /v1/promises HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
        format!("{head}content-length: {length}\r\n\r\n{body}")
    }

    #[track_caller]
    fn assert_problem(text: &str, code: Code) {
        let status = code.status();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert!(text.contains(PROBLEM_MEDIA_TYPE) && text.contains(code.as_str()), "{text}");
    }

    #[tokio::test]
    async fn what_is_no_question_gets_a_problem() {
        let at = server().await;
        for wrong in ["", "{", "[]", r#"{"unit":"unit-1"}"#, r#"{"unit":"UNIT 1","epoch":-1}"#] {
            assert_problem(&hear(say(&at, &ask(wrong, wrong.len())).await).await, Code::RequestInvalid);
        }
        let large = " ".repeat(BODY_BYTES_MAX + 1);
        assert_problem(&hear(say(&at, &ask(&large, large.len())).await).await, Code::RequestTooLarge);
        assert_problem(&hear(say(&at, &ask(ASK, ASK.len())).await).await, Code::NotFound);
    }

    #[tokio::test]
    async fn who_does_not_finish_is_shown_out() {
        let at = server().await;
        assert_eq!(hear(say(&at, "").await).await, "");
        assert_eq!(hear(say(&at, "POST /v1/promises HTTP/1.1\r\nhost:").await).await, "");
        let late = hear(say(&at, &ask(&ASK[1..], ASK.len())).await).await;
        assert_problem(&late, Code::RequestIncomplete);
        assert!(late.contains("too long"), "{late}");
    }

    #[tokio::test]
    async fn who_takes_no_answers_is_hung_up_on() {
        let mut deaf = server().await.connect("dc/chengdu-2/agent").await;
        let questions = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
        let asking = async { while deaf.write_all(questions.as_bytes()).await.is_ok() {} };
        timeout(PATIENCE, asking).await.expect("the server waits for ever until its answers are taken");
    }

    #[tokio::test]
    async fn a_crowd_that_says_nothing_does_not_keep_a_promise_away_for_ever() {
        let at = server().await;
        let mut crowd = Vec::new();
        for _ in 0..5 * CONNECTIONS {
            crowd.push(say(&at, "POST").await);
        }
        assert_problem(&hear(say(&at, &ask(ASK, ASK.len())).await).await, Code::NotFound);
    }
}
