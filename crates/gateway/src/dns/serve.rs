//! The shell: datagrams and connections in, answers out.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dujiang_types::DcId;
use dujiang_types::dns::Directory;
use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::answer::{Scene, answer};
use super::limit::{Limit, Verdict};
use super::sites;

/// A question is one name and some options; more is no question.
const QUESTION_BYTES_MAX: usize = 4_096;
/// Connections at once. Resolvers come by TCP only when told to.
const CONNECTIONS_MAX: usize = 64;
/// Questions over one connection.
const QUESTIONS_MAX: usize = 64;
/// How long a connection may take to ask, or to take an answer.
const STEP_MAX: Duration = Duration::from_secs(5);
/// Between two tries to listen on an address that is taken, and after an error of a socket.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What a site's DNS is started with.
pub(crate) struct Server {
    /// This site.
    pub(crate) here: DcId,
    /// Address to listen on.
    pub(crate) host: IpAddr,
    /// What there is to answer; `None` as long as no names are wanted.
    pub(crate) directory: watch::Receiver<Option<Arc<Directory>>>,
    /// For looking after the other sites.
    pub(crate) client: reqwest::Client,
}

/// What every answer is made from.
struct Known {
    here: DcId,
    directory: watch::Receiver<Option<Arc<Directory>>>,
    lost: watch::Receiver<Arc<BTreeSet<DcId>>>,
}

impl Known {
    /// The answer with the bytes it may have over UDP.
    fn answer(&self, bytes: &[u8], asker: IpAddr) -> Option<(Message, u16)> {
        let directory = self.directory.borrow().clone()?;
        let lost = self.lost.borrow().clone();
        let draw = uuid::Uuid::new_v4().as_u64_pair().0;
        answer(bytes, &Scene { directory: &directory, lost: &lost, here: &self.here, asker, draw })
    }
}

/// Answers for as long as the gateway runs. Names that come to be wanted later are answered then.
pub(crate) async fn run(server: Server) {
    let (lost, lost_seen) = watch::channel(Arc::default());
    let mut wanted = server.directory.clone();
    let directory = server.directory.clone();
    let look = tokio::spawn(sites::look(server.here.clone(), server.client, directory, lost));
    let known = Arc::new(Known { here: server.here, directory: server.directory, lost: lost_seen });
    loop {
        let Some(port) = next_port(&mut wanted).await else { break };
        let address = SocketAddr::new(server.host, port);
        tokio::select! {
            error = serve(address, known.clone()) => {
                tracing::error!(%address, %error, "customers' DNS cannot be answered; trying again");
                sleep(RETRY_PAUSE).await;
            }
            goes_on = moves_from(&mut wanted, port) => {
                if !goes_on {
                    break;
                }
            }
        }
    }
    look.abort();
}

type Directories = watch::Receiver<Option<Arc<Directory>>>;

/// The port to answer on, once names are wanted; `None` if the gateway ends.
async fn next_port(wanted: &mut Directories) -> Option<u16> {
    let directory = wanted.wait_for(Option::is_some).await.ok()?;
    directory.as_ref().map(|directory| directory.spec.port)
}

/// Waits until names are wanted on another port or not at all; false if the gateway ends.
async fn moves_from(wanted: &mut Directories, port: u16) -> bool {
    let other = |directory: &Option<Arc<Directory>>| directory.as_ref().is_none_or(|d| d.spec.port != port);
    wanted.wait_for(other).await.is_ok()
}

async fn serve(address: SocketAddr, known: Arc<Known>) -> io::Error {
    let opened =
        async { Ok::<_, io::Error>((UdpSocket::bind(address).await?, TcpListener::bind(address).await?)) };
    let (udp, tcp) = match opened.await {
        Ok(opened) => opened,
        Err(error) => return error,
    };
    tracing::info!(%address, "answering customers' DNS");
    tokio::select! {
        error = datagrams(udp, &known) => error,
        error = connections(tcp, &known) => error,
    }
}

async fn datagrams(socket: UdpSocket, known: &Known) -> io::Error {
    let mut limit = Limit::new(Instant::now());
    let mut buffer = vec![0; QUESTION_BYTES_MAX];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // What an earlier answer met on its way is no fault of the socket.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return error,
        };
        let Some((response, bytes_max)) = known.answer(&buffer[..length], from.ip()) else { continue };
        let bytes = match limit.take(from.ip(), Instant::now()) {
            Verdict::Drop => continue,
            Verdict::Truncate => encode(&response.truncate()),
            Verdict::Send => fit(&response, bytes_max),
        };
        if let Some(bytes) = bytes
            && let Err(error) = socket.send_to(&bytes, from).await
        {
            tracing::debug!(%from, %error, "an answer could not be sent");
        }
    }
}

/// The answer, or if it is too long that it is to be asked for by TCP.
fn fit(response: &Message, bytes_max: u16) -> Option<Vec<u8>> {
    let bytes = encode(response)?;
    if bytes.len() <= usize::from(bytes_max) { Some(bytes) } else { encode(&response.truncate()) }
}

fn encode(message: &Message) -> Option<Vec<u8>> {
    message.to_vec().inspect_err(|error| tracing::error!(%error, "an answer cannot be written")).ok()
}

async fn connections(listener: TcpListener, known: &Arc<Known>) -> io::Error {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return io::Error::other("the count of connections is closed");
        };
        match listener.accept().await {
            Ok((stream, from)) => {
                let known = known.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, from.ip(), &known).await {
                        tracing::debug!(%from, %error, "a connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}

async fn converse(mut stream: TcpStream, from: IpAddr, known: &Known) -> io::Result<()> {
    let mut buffer = vec![0; QUESTION_BYTES_MAX];
    for _ in 0..QUESTIONS_MAX {
        let read = async {
            let length = usize::from(stream.read_u16().await?);
            if length > QUESTION_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "too long for a question"));
            }
            stream.read_exact(&mut buffer[..length]).await?;
            Ok(length)
        };
        let length = match timeout(STEP_MAX, read).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(length) => length?,
            Err(_) => return Ok(()),
        };
        let answered = known.answer(&buffer[..length], from).and_then(|(response, _)| encode(&response));
        let Some(bytes) = answered else { return Ok(()) };
        let Ok(size) = u16::try_from(bytes.len()) else { return Ok(()) };
        let framed = [&size.to_be_bytes()[..], &bytes].concat();
        timeout(STEP_MAX, stream.write_all(&framed)).await??;
    }
    Ok(())
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
