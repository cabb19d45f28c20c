//! The same over etcd: the control plane needs nothing that only the store in a file has.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dujiang_identity::EtcdFiles;
use dujiang_identity::testing::TestAuthority;
use dujiang_store::EtcdStore;
use dujiang_types::Code;
use dujiang_types::operation::OperationState;
use dujiang_types::unit::Phase;
use reqwest::Method;

use crate::plane::{DEADLINE, Plane, data_center, problem};
use crate::sse::Reader;
use crate::world::{ask_to_move, dc, operation, serving};

const PROGRAM: &str = "/usr/bin/etcd";

/// A running etcd on free loopback ports; killed when dropped.
struct Etcd {
    authority: TestAuthority,
    folder: tempfile::TempDir,
    ports: [u16; 2],
    child: Option<Child>,
}

impl Etcd {
    async fn start() -> Self {
        let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let ports = listeners.map(|listener| listener.local_addr().unwrap().port());
        let folder = tempfile::tempdir().unwrap();
        let mut etcd = Self { authority: TestAuthority::default(), folder, ports, child: None };
        etcd.revive().await;
        etcd
    }

    fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports[0])
    }

    /// A control plane over it.
    async fn plane(&self) -> Plane {
        Plane::over(format!("etcd:{}", self.endpoint()), None, self.authority.clone()).await
    }

    async fn revive(&mut self) {
        let (client, peer) = (self.endpoint(), format!("https://127.0.0.1:{}", self.ports[1]));
        let (own, client_identity) =
            (self.folder.path().join("store.pem"), self.authority.identity("control"));
        self.authority.bundle("dc/a/store").write(&own).unwrap();
        let child = Command::new(PROGRAM)
            .args(["--name", "one", "--log-level", "error"])
            .arg("--data-dir")
            .arg(self.folder.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")])
            .args(EtcdFiles::of(&own).unwrap().member_options())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd; install it with: apt-get install etcd-server");
        self.child = Some(child);
        let began = Instant::now();
        while EtcdStore::connect(&[client.as_str()], &client_identity).await.is_err() {
            assert!(began.elapsed() < DEADLINE, "etcd does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_etcd_a_unit_forms_moves_and_survives_a_kill_of_the_control_plane() {
    let etcd = Etcd::start().await;
    let mut plane = etcd.plane().await;
    plane.make_platform().await;
    let mut world = serving(&plane).await;
    let name = ask_to_move(&plane, "b").await;
    world.until(&plane, "moving", |u| u.status.phase != Phase::Serving || u.status.home == dc("b")).await;
    plane.kill();
    plane.revive().await;
    let unit = world.until_served(&plane).await;
    let operation = operation(&plane, &name).await;
    assert_eq!(unit.status.home == dc("b"), operation.status.state == OperationState::Succeeded);
    let gone = plane.request(Method::GET, "/v1/watch?from=1000000").send().await.unwrap();
    assert_eq!(problem(gone).await.code, Code::Compacted);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_etcd_is_away_nothing_is_said_to_be_done_and_then_everything_goes_on() {
    let mut etcd = Etcd::start().await;
    let plane = etcd.plane().await;
    plane.make_platform().await;
    let mut tables = Reader::open(plane.request(Method::GET, "/v1/routing/watch")).await;
    assert_eq!(tables.next().await.unwrap().data["mesh"]["a"], "127.0.11.1:7200");
    etcd.kill();
    let refused = problem(plane.try_put("/v1/datacenters/d", &data_center(14)).await).await;
    let may_be_said = [Code::StoreUnavailable, Code::OutcomeUnknown, Code::NotLeading];
    assert!(may_be_said.contains(&refused.code), "{refused}");
    let unready = problem(plane.request(Method::GET, "/readyz").send().await.unwrap()).await;
    assert_eq!(unready.code, Code::StoreUnavailable);
    assert_eq!(
        plane.get("/v1/routing").await["mesh"]["a"],
        "127.0.11.1:7200",
        "what is known is still served"
    );
    etcd.revive().await;
    let again = async {
        while !plane.try_put("/v1/datacenters/d", &data_center(14)).await.status().is_success() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, again).await.unwrap();
    // The watch goes on, or was ended because the server was out of touch for too long; and the server may write again
    // before it has read again.
    let told = async {
        loop {
            match tables.next().await {
                Some(next) if next.data["mesh"]["d"] == "127.0.14.1:7200" => return,
                Some(_) => {}
                None => tables = Reader::open(plane.request(Method::GET, "/v1/routing/watch")).await,
            }
        }
    };
    tokio::time::timeout(DEADLINE, told).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_one_decides_and_the_other_takes_over_when_it_is_gone() {
    let etcd = Etcd::start().await;
    let mut first = etcd.plane().await;
    first.make_platform().await;
    let second = first.another("second").await;
    let mut world = serving(&first).await;
    assert!(first.leads().await && !second.leads().await);
    assert_eq!(second.get("/v1/status").await["leader"], "control");

    // Who does not decide listens and shows, and changes nothing.
    let refused = problem(second.try_put("/v1/datacenters/d", &data_center(14)).await).await;
    assert_eq!(refused.code, Code::NotLeading);
    let mut units = Reader::open(second.request(Method::GET, "/v1/watch?kinds=units")).await;
    assert_eq!(units.next().await.unwrap().name, "snapshot");
    let began = Instant::now();
    while second.get("/v1/status").await["units"]["unit-1"]["replicas"]["a"]["known"] != true {
        assert!(began.elapsed() < DEADLINE, "what is reported to it is not shown");
        world.tick(&second).await;
        assert!(world.leases.is_empty(), "a lease granted by who does not lead: {:?}", world.leases);
    }

    first.kill();
    second.until_it_leads().await;
    assert_eq!(second.get("/v1/status").await["leader"], "second");
    let unit = world.until_served(&second).await;
    assert_eq!(unit.status.home, dc("a"), "nothing moves that need not");
    second.put("/v1/datacenters/d", &data_center(14)).await;
    let name = ask_to_move(&second, "b").await;
    world.until(&second, "at b", |u| u.status.phase == Phase::Serving && u.status.home == dc("b")).await;
    assert_eq!(operation(&second, &name).await.status.state, OperationState::Succeeded);
}
