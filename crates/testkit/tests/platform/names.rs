//! Customers find the bank by name while sites are drained and lost.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;
use std::time::Duration;

use dujiang_testkit::cluster::{Cluster, DATA_CENTERS, PATIENCE};
use dujiang_testkit::load::Mix;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use crate::{RATE, assert_clean, cluster, dc};

/// Port of the names in a test platform.
const PORT: u16 = 5_300;
/// So many answers in a row are enough to meet every site that is given at all.
const ANSWERS: usize = 40;

/// Where a site says that the bank is.
async fn ask(cluster: &Cluster, site: u8) -> Option<IpAddr> {
    let mut question = Message::new(1, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_str("www.bank.example.").unwrap(), RecordType::A));
    let host: IpAddr = cluster.host(site).parse().unwrap();
    let socket = UdpSocket::bind((host, 0)).await.unwrap();
    socket.connect(SocketAddr::new(host, PORT)).await.unwrap();
    socket.send(&question.to_vec().unwrap()).await.ok()?;
    let mut buffer = [0; 1_500];
    let length = timeout(Duration::from_secs(1), socket.recv(&mut buffer)).await.ok()?.ok()?;
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    match answer.answers.first().map(|record| &record.data) {
        Some(RData::A(address)) => Some(IpAddr::V4(address.0)),
        _ => None,
    }
}

/// Waits until a site gives exactly these sites.
async fn gives(cluster: &Cluster, site: u8, expected: &[u8]) {
    let expected: BTreeSet<IpAddr> = expected.iter().map(|n| cluster.host(*n).parse().unwrap()).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut given = BTreeSet::new();
        for _ in 0..ANSWERS {
            given.extend(ask(cluster, site).await);
        }
        if given == expected {
            return;
        }
        assert!(Instant::now() < deadline, "site {site} gives {given:?}, not {expected:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_site_fails_nobody_and_a_lost_one_is_left_out() {
    let cluster = cluster().await;
    for site in 0..3 {
        gives(&cluster, site, &[0, 1, 2]).await;
    }
    let load = cluster.load(RATE, Mix::PAYMENTS, 41).await.unwrap();
    cluster.dujiang(&["site", "drain", dc(0).as_str()]).await.unwrap();
    for site in 0..3 {
        gives(&cluster, site, &[1, 2]).await;
    }
    cluster.dujiang(&["site", "drain", dc(1).as_str()]).await.unwrap();
    let refused = cluster.dujiang(&["site", "drain", dc(2).as_str()]).await.unwrap_err().to_string();
    assert!(refused.contains("the last site"), "{refused}");
    for site in 0..2 {
        cluster.dujiang(&["site", "undrain", dc(site).as_str()]).await.unwrap();
    }
    gives(&cluster, 2, &[0, 1, 2]).await;
    let summary = load.stop().await.unwrap();
    assert_eq!(summary.total.failed_requests, 0, "{:#?}", summary.total);

    // A whole data center at once; the others are asked by their own addresses.
    let mark = cluster.data().join("run/power-off").join(DATA_CENTERS[0]);
    std::fs::write(&mark, "").unwrap();
    for site in 1..3 {
        gives(&cluster, site, &[1, 2]).await;
    }
    std::fs::remove_file(&mark).unwrap();
    for site in 0..3 {
        gives(&cluster, site, &[0, 1, 2]).await;
    }
    cluster.whole().await.unwrap();
    assert_clean(&cluster.verify().await.unwrap(), 50);
}
