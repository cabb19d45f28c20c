//! The laboratory itself: delays, cuts in one direction, and that nothing is left of it.

use std::time::{Duration, Instant};

use dujiang_lab::nets::Lab;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::lab;

/// Longer than any packet takes, also one sent again.
const PATIENCE: Duration = Duration::from_secs(20);
/// Nothing that passes takes this long.
const CUT: Duration = Duration::from_secs(2);

/// Answers every byte with itself, in a data center.
fn echo(lab: &Lab, name: &'static str, address: &'static str) {
    lab.inside(Lab::place(name), move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind(address).await.unwrap();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).await.is_ok() && stream.write_all(&byte).await.is_ok()
                    {
                    }
                });
            }
        });
    });
}

async fn connect(address: &str) -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(address).await {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn round_trip(stream: &mut TcpStream) -> Duration {
    let began = Instant::now();
    stream.write_all(b"x").await.unwrap();
    let mut byte = [0];
    timeout(PATIENCE, stream.read_exact(&mut byte)).await.unwrap().unwrap();
    began.elapsed()
}

#[test]
fn packets_take_their_time_and_cuts_are_one_way() {
    lab("wire::packets_take_their_time_and_cuts_are_one_way", |lab| async move {
        echo(&lab, "chengdu-1", "10.77.11.1:900");
        echo(&lab, "guiyang-1", "10.77.13.1:900");
        let (mut near, mut far) = (connect("10.77.11.1:900").await, connect("10.77.13.1:900").await);
        assert!(round_trip(&mut near).await >= Duration::from_millis(2));
        assert!(round_trip(&mut far).await >= Duration::from_millis(12));

        // What is sent arrives, and no answer comes back; until the link heals.
        lab.change(Lab::place("chengdu-1"), dujiang_lab::nets::CUSTOMERS, |link| link.cut = true);
        near.write_all(b"y").await.unwrap();
        let mut byte = [0];
        assert!(timeout(CUT, near.read_exact(&mut byte)).await.is_err(), "the way back is cut");
        round_trip(&mut far).await;
        lab.heal();
        timeout(PATIENCE, near.read_exact(&mut byte)).await.unwrap().unwrap();
        assert_eq!(byte, *b"y");
    });
}
