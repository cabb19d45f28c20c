//! Server-sent events with a bound on everything: streams, what waits in one, and how long a reader may stall.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use dujiang_types::Code;
use futures_util::stream;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};

use super::App;
use crate::error::{ApiError, ApiResult, out_of_touch};

/// Comments are sent this often while nothing happens, so that a reader can tell silence from a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// Events that wait for a slow reader. Beyond that the producer waits, and the store keeps the history.
const EVENTS_MAX: usize = 64;
/// A reader that takes nothing for so long is dropped; it can resume from where it was.
const STALL_MAX: Duration = Duration::from_secs(10);
/// How often a stream looks whether its server is still in touch with the store.
const TOUCH_LOOK_EVERY: Duration = Duration::from_millis(250);

/// Ends the connection a request came by; put into each request by the server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hangup(pub(crate) Arc<Notify>);

/// The sending end of a stream.
pub(super) struct Sender {
    events: mpsc::Sender<Event>,
    hangup: Option<Hangup>,
    app: App,
    _permit: OwnedSemaphorePermit,
}

/// The reader is gone or was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

impl Sender {
    /// Sends an event, waiting for a reader that is slow but not for one that has stalled.
    pub(super) async fn send(&self, event: Event) -> Result<(), Gone> {
        match self.events.send_timeout(event, STALL_MAX).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Gone),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                tracing::info!(
                    stall_s = STALL_MAX.as_secs(),
                    "a watch is dropped, because its reader stalls"
                );
                // The stream's end would have to pass the same stalled connection: cut it.
                if let Some(Hangup(notify)) = &self.hangup {
                    notify.notify_one();
                }
                Err(Gone)
            }
        }
    }

    /// Resolves when the reader is gone, the server shuts down or the store does not answer, so that a producer with
    /// nothing to send notices.
    pub(super) async fn closed(&self) {
        let mut closing = self.app.shared.closing.subscribe();
        tokio::select! {
            () = self.events.closed() => {}
            _ = closing.wait_for(|closing| *closing) => {}
            () = until_out_of_touch(&self.app) => {}
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.app.shared.metrics.streams.dec();
    }
}

/// Resolves when the reader is better served elsewhere: what comes from a store that does not answer is long past.
async fn until_out_of_touch(app: &App) {
    while app.shared.leader.is_in_touch() {
        tokio::time::sleep(TOUCH_LOOK_EVERY).await;
    }
}

/// Answers with a stream that `produce` feeds until it ends or the reader is gone.
pub(super) fn respond<P, F>(app: &App, hangup: Option<Hangup>, produce: P) -> ApiResult<Response>
where
    P: FnOnce(Sender) -> F,
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    if !app.shared.leader.is_in_touch() {
        return Err(out_of_touch());
    }
    let permit = Arc::clone(&app.shared.streams).try_acquire_owned().map_err(|_| {
        let mut error = ApiError::new(Code::Overloaded, "too many watches are being served; try again later");
        error.0.retry_after = Some(1);
        error
    })?;
    app.shared.metrics.streams.inc();
    let (events, received) = mpsc::channel(EVENTS_MAX);
    tokio::spawn(produce(Sender { events, hangup, app: app.clone(), _permit: permit }));
    let events = stream::unfold(received, async |mut received: mpsc::Receiver<Event>| {
        let event = received.recv().await?;
        Some((Ok::<_, Infallible>(event), received))
    });
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(([(header::CACHE_CONTROL, "no-store")], sse).into_response())
}
