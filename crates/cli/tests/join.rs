//! A machine that has nothing but a token becomes a data center's agent: the real commands, over a real control server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use dujiang_identity::{Bundle, Folder, Policy};
use dujiang_types::PlatformId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::{Child, Command};

/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);
const PLATFORM: &str = "join";

struct World {
    folder: tempfile::TempDir,
    _control: Child,
    url: String,
}

/// An agent, stopped in order when dropped: a gateway that it has started goes with it.
struct Agent(std::process::Child);

impl Agent {
    fn start(command: Command, data: &Path) -> Self {
        let mut command = command.into_std();
        let log = std::fs::File::create(data.join("agent.log")).unwrap();
        Self(command.stderr(log).spawn().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn dujiang(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dujiang"));
    command.arg("--data").arg(data).stdin(Stdio::null()).kill_on_drop(true);
    for name in ["DUJIANG_CONTROL", "DUJIANG_IDENTITY"] {
        command.env_remove(name);
    }
    command
}

impl World {
    /// A control server of a platform that has one data center.
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = &folder.path().to_owned();
        Folder::of(data).prepare(&PlatformId::new(PLATFORM).unwrap(), Policy::default()).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = std::fs::File::create(data.join("control.log")).unwrap();
        let control =
            dujiang(data).args(["control", "--listen", &free.to_string()]).stderr(log).spawn().unwrap();
        let world = Self { _control: control, url: format!("https://{free}"), folder };
        let zhang = world.operator();
        let made =
            dujiang(data).args(["operator", "create", "zhang", "--out"]).arg(&zhang).output().await.unwrap();
        assert!(made.status.success(), "{made:?}");
        let spec = r#"{"kind": "datacenter", "name": "chengdu-1", "spec": {"region": "r", "network": "127.0.93.0/24", "gateway": {"port": 8080, "threads": 1}}}"#;
        let file = data.join("dc.json");
        std::fs::write(&file, spec).unwrap();
        let began = Instant::now();
        while !world.run(&["apply", "-f", file.to_str().unwrap()]).await.status.success() {
            assert!(began.elapsed() < DEADLINE, "the control server does not take a data center");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        world
    }

    fn operator(&self) -> PathBuf {
        self.folder.path().join("zhang.pem")
    }

    /// A command of the operator.
    async fn run(&self, args: &[&str]) -> std::process::Output {
        let mut command = dujiang(self.folder.path());
        command.args(args).args(["--control", &self.url, "--identity"]).arg(self.operator());
        tokio::time::timeout(DEADLINE, command.output()).await.unwrap().unwrap()
    }

    async fn tokens(&self) -> Value {
        let listed = self.run(&["token", "list", "-o", "json"]).await;
        serde_json::from_slice::<Value>(&listed.stdout).unwrap()["items"].take()
    }

    /// An agent on another machine: in a folder of its own that has only what the platform's secret is.
    fn agent(&self, dc: &str, data: &Path, token: &Path) -> Command {
        std::fs::write(data.join("secret"), "a secret").unwrap();
        let mut command = dujiang(data);
        command.args(["agent", "--dc", dc, "--control", &self.url, "--join"]).arg(token);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }
}

#[tokio::test]
async fn a_machine_with_a_token_becomes_the_agent_it_is_for_and_the_token_is_spent() {
    let world = World::start().await;
    let token = world.folder.path().join("chengdu-1.token");
    let made = world
        .run(&["token", "create", "--dc", "chengdu-1", "--ttl", "10m", "--out", token.to_str().unwrap()])
        .await;
    assert!(made.status.success(), "{made:?}");
    let again = world.run(&["token", "create", "--dc", "chengdu-1", "--out", token.to_str().unwrap()]).await;
    assert_eq!(again.status.code(), Some(2), "nothing is overwritten");
    assert_eq!(std::fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);

    // One that is for another data center is not shown to anybody.
    let elsewhere = tempfile::tempdir().unwrap();
    let refused = world.agent("chengdu-2", elsewhere.path(), &token).output().await.unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("is not for chengdu-2"), "{said}");

    let machine = tempfile::tempdir().unwrap();
    let agent = Agent::start(world.agent("chengdu-1", machine.path(), &token), machine.path());
    let identity = machine.path().join("dc/chengdu-1/identity/agent.pem");
    let began = Instant::now();
    while world.tokens().await[0]["used"].is_null() || !identity.exists() {
        assert!(began.elapsed() < DEADLINE, "it does not join");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let name = Bundle::read(&identity).unwrap().name().unwrap().to_string();
    assert_eq!(name, format!("spiffe://{PLATFORM}/dc/chengdu-1/agent"));
    // It has its data center's other identities certified with it.
    while !identity.with_file_name("gateway.pem").exists() {
        assert!(began.elapsed() < DEADLINE, "what it has become is good for nothing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let tokens = world.tokens().await;
    assert_eq!((&tokens[0]["created_by"], &tokens[0]["dc"]), (&"zhang".into(), &"chengdu-1".into()));
    drop(agent);

    // The thief who comes later gets nothing; the agent that starts again does not need it.
    let thief = tempfile::tempdir().unwrap();
    let refused = world.agent("chengdu-1", thief.path(), &token).output().await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("works once"), "{said}");
    let _agent = Agent::start(world.agent("chengdu-1", machine.path(), &token), machine.path());
    std::fs::remove_file(identity.with_file_name("gateway.pem")).unwrap();
    let began = Instant::now();
    while !identity.with_file_name("gateway.pem").exists() {
        assert!(began.elapsed() < DEADLINE, "it does not start again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
