//! The cheapest instance there can be, for measuring what stands before it: answers every request alike, without
//! looking at more than where it ends. Makes an authority, and leaves a gateway's identity and the authority's
//! certificate in the folder. `upstream ADDRESS FOLDER`

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;

use dujiang_identity::testing::TestAuthority;
use dujiang_identity::{Acceptor, Expect, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 27\r\n\r\n{\"balance\":\"1000.00\",\"n\":1}";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<Infallible, Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, folder] = &arguments[..] else { return Err("usage: upstream ADDRESS FOLDER".into()) };
    let authority = TestAuthority::default();
    authority.bundle("dc/a/gateway").write(&Path::new(folder).join("gateway.pem"))?;
    std::fs::write(Path::new(folder).join("authority.pem"), authority.authority().certificate())?;
    let instance = authority.identity("dc/a/application/bank");
    let acceptor = Acceptor::new(&instance, Expect::roles(&[Role::Gateway]))?;
    let listener = TcpListener::bind(address.parse::<SocketAddr>()?).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let (stream, _) = acceptor.accept(stream).await?;
            serve(stream).await
        });
    }
}

/// Serves requests without bodies until the other end leaves.
async fn serve(mut stream: TlsStream<TcpStream>) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]).await? {
            0 => return Ok(()),
            read => filled += read,
        }
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            filled = 0;
            stream.write_all(ANSWER).await?;
            stream.flush().await?;
        }
    }
}
