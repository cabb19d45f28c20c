use std::net::Ipv4Addr;

use dujiang_identity::testing::TestAuthority;
use dujiang_identity::{Acceptor, Expect, Role};
use dujiang_types::dns::{DnsSpec, Site};
use dujiang_types::{RegionId, Revision};
use hickory_proto::op::{MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use std::str::FromStr as _;

use super::*;

const DEADLINE: Duration = Duration::from_secs(30);

fn dc(name: &str) -> DcId {
    DcId::new(name).unwrap()
}

/// A port nobody has, for both protocols.
async fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port()
}

/// Speaks with other sites' gateways as this site's.
fn client(authority: &TestAuthority) -> reqwest::Client {
    let own = authority.in_dc(&dc("here"), Role::Gateway);
    dujiang_identity::http_client(&own, Expect::roles(&[Role::Gateway])).unwrap().build().unwrap()
}

/// Two sites: this one, and one whose health is asked for at that address.
fn directory(port: u16, health: SocketAddr) -> Directory {
    let site = |name: &str, last: u8, health| {
        let address = IpAddr::from([10, 0, 0, last]);
        (dc(name), Site { region: RegionId::new("r").unwrap(), address, health, drained: false })
    };
    Directory {
        spec: DnsSpec {
            zone: "bank.example".to_owned(),
            names: BTreeSet::from(["www".to_owned()]),
            port,
            ttl_s: 1,
            weights: [(dc("here"), 0), (dc("there"), 1)].into(),
            regions: std::collections::BTreeMap::new(),
            resolvers: BTreeSet::new(),
        },
        sites: [site("here", 1, health), site("there", 2, health)].into(),
        serial: Revision(1),
    }
}

fn question(name: &str) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_str(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

async fn by_udp(port: u16, bytes: &[u8]) -> Option<Message> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    socket.send(bytes).await.ok()?;
    let mut buffer = vec![0; 4_096];
    let received = timeout(Duration::from_millis(300), socket.recv(&mut buffer)).await.ok()?.ok()?;
    Message::from_vec(&buffer[..received]).ok()
}

async fn by_tcp(stream: &mut TcpStream, bytes: &[u8]) -> Message {
    stream
        .write_all(&[&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat())
        .await
        .unwrap();
    let mut buffer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut buffer).await.unwrap();
    Message::from_vec(&buffer).unwrap()
}

fn shown(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

/// Asks until the answer is that one.
async fn wait_for(port: u16, answer: &[&str]) {
    let asked = async {
        loop {
            let heard = by_udp(port, &question("www.bank.example.")).await;
            if heard.is_some_and(|message| shown(&message) == answer) {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, asked).await.unwrap_or_else(|_| panic!("it never is {answer:?}"));
}

#[tokio::test]
async fn both_protocols_answer_and_follow_drain_and_loss() {
    let port = free_port().await;
    // A site that says it is ready, until it is dropped.
    let health = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = health.local_addr().unwrap();
    let authority = TestAuthority::default();
    let acceptor = Acceptor::new(&authority.in_dc(&dc("there"), Role::Gateway), Expect::anyone()).unwrap();
    let site = tokio::spawn(async move {
        while let Ok((stream, _)) = health.accept().await {
            let Ok((mut stream, _)) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        }
    });
    let (wanted, directory_seen) = watch::channel(None);
    let client = client(&authority);
    let server =
        Server { here: dc("here"), host: Ipv4Addr::LOCALHOST.into(), directory: directory_seen, client };
    let server = tokio::spawn(run(server));
    assert!(by_udp(port, &question("www.bank.example.")).await.is_none(), "no names are wanted yet");
    wanted.send_replace(Some(Arc::new(directory(port, address))));
    wait_for(port, &["10.0.0.2"]).await;

    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    for (name, code, answers) in [
        ("www.bank.example.", ResponseCode::NoError, vec!["10.0.0.2".to_owned()]),
        ("nothing.bank.example.", ResponseCode::NXDomain, vec![]),
        ("example.org.", ResponseCode::Refused, vec![]),
    ] {
        let response = by_tcp(&mut stream, &question(name)).await;
        assert_eq!((response.metadata.response_code, shown(&response)), (code, answers), "{name}");
    }
    // Garbage is answered or not, and ends at most its own connection.
    assert!(by_udp(port, b"garbage").await.is_none());
    assert_eq!(by_udp(port, &[7; 40]).await.unwrap().metadata.response_code, ResponseCode::FormErr);
    stream.write_all(&[0xff, 0xff, 1, 2, 3]).await.unwrap();
    wait_for(port, &["10.0.0.2"]).await;

    // Drained: its own weight is 0, so only with that changed there is somebody else.
    let mut other = directory(port, address);
    other.spec.weights.insert(dc("here"), 1);
    other.sites.get_mut(&dc("there")).unwrap().drained = true;
    wanted.send_replace(Some(Arc::new(other.clone())));
    wait_for(port, &["10.0.0.1"]).await;
    other.sites.get_mut(&dc("there")).unwrap().drained = false;
    other.spec.weights.insert(dc("there"), 1_000);
    wanted.send_replace(Some(Arc::new(other)));
    wait_for(port, &["10.0.0.2"]).await;
    // Lost: nobody answers at its address any more.
    site.abort();
    let lost = async {
        let mut in_a_row = 0;
        while in_a_row < 20 {
            let heard = by_udp(port, &question("www.bank.example.")).await;
            let away = heard.is_some_and(|message| shown(&message) == ["10.0.0.1"]);
            in_a_row = if away { in_a_row + 1 } else { 0 };
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, lost).await.expect("the lost site is left out");
    drop(wanted);
    timeout(DEADLINE, server).await.unwrap().unwrap();
}

#[tokio::test]
async fn more_than_its_share_is_told_to_come_by_tcp() {
    let port = free_port().await;
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let (_wanted, directory_seen) = watch::channel(Some(Arc::new(directory(port, nobody))));
    let client = client(&TestAuthority::default());
    let server =
        Server { here: dc("here"), host: Ipv4Addr::LOCALHOST.into(), directory: directory_seen, client };
    tokio::spawn(run(server));
    wait_for(port, &["10.0.0.2"]).await;
    let flood = async {
        loop {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            socket.connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            for _ in 0..200 {
                socket.send(&question("www.bank.example.")).await.unwrap();
            }
            let mut buffer = vec![0; 4_096];
            while let Ok(Ok(length)) = timeout(Duration::from_millis(50), socket.recv(&mut buffer)).await {
                let message = Message::from_vec(&buffer[..length]).unwrap();
                if message.metadata.truncation {
                    assert!(message.answers.is_empty());
                    return;
                }
            }
        }
    };
    timeout(DEADLINE, flood).await.expect("it is told so");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    assert_eq!(shown(&by_tcp(&mut stream, &question("www.bank.example.")).await), ["10.0.0.2"]);
}
