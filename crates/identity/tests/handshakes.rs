//! Who gets through a handshake, and who does not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in what its tests share")]

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dujiang_identity::testing::TestAuthority;
use dujiang_identity::{
    Acceptor, Authority, Bundle, Connector, Expect, Folder, Identity, KeyRequest, Peer, Policy, Role,
};
use dujiang_types::PlatformId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Shakes hands and has one byte go there and back. What both ends made of it.
async fn meet(server: Acceptor, client: Connector, at: IpAddr) -> (io::Result<Peer>, io::Result<()>) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let serving = async {
        let (mut stream, peer) = server.accept(far).await?;
        let byte = stream.read_u8().await?;
        stream.write_u8(byte).await?;
        stream.flush().await?;
        Ok(peer)
    };
    let calling = async {
        let mut stream = client.connect(at, near).await?;
        stream.write_u8(7).await?;
        stream.flush().await?;
        // Who calls learns only here that it is not wanted.
        stream.read_u8().await.map(drop)
    };
    tokio::join!(serving, calling)
}

fn acceptor(identity: &Identity, roles: &[Role]) -> Acceptor {
    Acceptor::new(identity, Expect::roles(roles)).unwrap()
}

fn connector(identity: &Identity, roles: &[Role]) -> Connector {
    Connector::new(identity, Expect::roles(roles)).unwrap()
}

#[tokio::test]
async fn the_right_ones_meet_and_know_each_other() {
    let ca = TestAuthority::default();
    let (gateway, instance) = (ca.identity("dc/a/gateway"), ca.identity("dc/a/application/bank"));
    let server = acceptor(&instance, &[Role::Gateway]);
    let (peer, answered) = meet(server, connector(&gateway, &[Role::Application]), HERE).await;
    assert_eq!(peer.unwrap().name.to_string(), "spiffe://test/dc/a/gateway");
    answered.unwrap();
}

#[tokio::test]
async fn a_wrong_role_authority_data_center_or_address_is_refused_by_either_end() {
    let (ca, other) = (TestAuthority::default(), TestAuthority::default());
    let gateway = ca.identity("dc/a/gateway");
    let instance = ca.identity("dc/a/application/bank");
    let here = Expect::roles(&[Role::Gateway]).within(gateway.name().dc().unwrap());
    let to_instance = |identity: &Identity| connector(identity, &[Role::Application]);
    for stranger in [ca.identity("dc/a/agent"), ca.identity("dc/b/gateway"), other.identity("dc/a/gateway")] {
        let server = Acceptor::new(&instance, here.clone()).unwrap();
        let (peer, answered) = meet(server, to_instance(&stranger), HERE).await;
        assert!(peer.is_err() && answered.is_err(), "{} gets through", stranger.name());
    }
    for stranger in [ca.identity("dc/a/agent"), other.identity("dc/a/application/bank")] {
        let (peer, answered) = meet(acceptor(&stranger, &[Role::Gateway]), to_instance(&gateway), HERE).await;
        assert!(peer.is_err() && answered.is_err(), "{} is believed", stranger.name());
    }
    let elsewhere = IpAddr::from([127, 0, 0, 2]);
    let (peer, answered) =
        meet(acceptor(&instance, &[Role::Gateway]), to_instance(&gateway), elsewhere).await;
    assert!(peer.is_err() && answered.is_err(), "an address the certificate does not name");
}

#[tokio::test]
async fn who_does_not_speak_tls_gets_nowhere() {
    let ca = TestAuthority::default();
    let server = acceptor(&ca.identity("dc/a/control"), Role::ALL);
    let (mut near, far) = tokio::io::duplex(1 << 16);
    let plain = async {
        near.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        near.shutdown().await.unwrap();
    };
    let (accepted, ()) = tokio::join!(server.accept(far), plain);
    assert!(accepted.is_err());
}

#[tokio::test]
async fn a_certificate_that_has_run_out_is_refused() {
    let ca = TestAuthority::default();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity.pem");
    let name = ca.name("dc/a/gateway");
    let short = ca.authority().issue_for(&name, &[HERE], Duration::from_secs(1)).unwrap();
    short.write(&path).unwrap();
    let gateway = Identity::from_file(&path).unwrap();
    let instance = ca.identity("dc/a/application/bank");
    let meet =
        || meet(acceptor(&instance, &[Role::Gateway]), connector(&gateway, &[Role::Application]), HERE);
    while SystemTime::now() <= short.not_after().unwrap() + Duration::from_secs(1) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (peer, _) = meet().await;
    assert!(peer.is_err());
    // Renewed, without a new configuration.
    ca.bundle("dc/a/gateway").write(&path).unwrap();
    let began = SystemTime::now();
    loop {
        let (peer, answered) = meet().await;
        if peer.is_ok() {
            answered.unwrap();
            break;
        }
        assert!(began.elapsed().unwrap() < Duration::from_secs(60), "the renewal is not noticed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Another's identity in its place is not taken for a renewal.
    ca.bundle("dc/a/agent").write(&path).unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    meet().await.0.unwrap();
}

#[test]
fn the_authorities_are_kept_and_are_two() {
    let data = tempfile::tempdir().unwrap();
    let folder = Folder::of(data.path());
    let platform = PlatformId::new("demo").unwrap();
    folder.prepare(&platform, Policy::default()).unwrap();
    let first = folder.platform().unwrap();
    folder.prepare(&platform, Policy { lifetime_s: 60 }).unwrap();
    assert_eq!(folder.platform().unwrap().certificate(), first.certificate());
    assert_ne!(folder.store().unwrap().certificate(), first.certificate());
    assert_eq!(first.platform(), &platform);
    for file in std::fs::read_dir(data.path().join("authority")).unwrap() {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o077, 0);
    }
    let name = "spiffe://demo/control".parse().unwrap();
    let left = folder.platform().unwrap().issue(&name, &[]).unwrap().not_after().unwrap();
    assert!(left < SystemTime::now() + Duration::from_secs(61));
}

#[test]
fn a_request_is_answered_with_what_the_authority_says_whatever_it_asks() {
    let authority =
        Arc::new(Authority::make(&PlatformId::new("p").unwrap(), "platform", Policy::default()).unwrap());
    let request = KeyRequest::new().unwrap();
    let name = "spiffe://p/dc/a/gateway".parse().unwrap();
    let certificate = authority.sign(request.pem(), &name, &[HERE]).unwrap();
    let bundle = Bundle::answered(&request, certificate.clone(), authority.certificate().to_owned()).unwrap();
    assert_eq!(bundle.name().unwrap(), name);
    let again = Bundle::from_pem(&bundle.to_pem()).unwrap();
    assert_eq!(again.to_pem(), bundle.to_pem());
    let another = KeyRequest::new().unwrap();
    assert!(
        Bundle::answered(&another, certificate, authority.certificate().to_owned()).is_err(),
        "another's key"
    );
    let broken = request.pem().replace("BEGIN CERTIFICATE REQUEST", "BEGIN NONSENSE");
    assert!(authority.sign(&broken, &name, &[]).is_err());
}
