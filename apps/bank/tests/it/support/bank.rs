//! An instance of the bank: the real program in a process of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{free_port, until};

pub(crate) struct Bank {
    address: SocketAddr,
    folder: PathBuf,
    name: String,
    units: PathBuf,
    child: Option<Child>,
}

impl Bank {
    /// Writes the units file; nothing runs yet.
    pub(crate) fn new(folder: &Path, unit: &str, slots: &str, mesh: &str, database_port: u16) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let units = folder.join(format!("{unit}.units.json"));
        let bank = Self { address, folder: folder.to_owned(), name: unit.to_owned(), units, child: None };
        bank.write_units(slots, mesh, database_port);
        bank
    }

    /// Replaces the units file as the agent does.
    pub(crate) fn write_units(&self, slots: &str, mesh: &str, database_port: u16) {
        let file = serde_json::json!({"dc": "a", "mesh": mesh, "units": [{
            "unit": self.name, "application": "bank", "host": "127.0.0.1", "port": database_port,
            "database": "bank", "role": "bank", "slots": [slots]}]});
        let fresh = self.units.with_extension("new");
        std::fs::write(&fresh, file.to_string()).unwrap();
        std::fs::rename(fresh, &self.units).unwrap();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    pub(crate) async fn start(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_dujiang-bank"))
            .args(["--listen", &self.address.to_string()])
            .arg("--units")
            .arg(&self.units)
            .arg("--secret")
            .arg(self.folder.join("secret"))
            .arg("--identity")
            .arg(dujiang_sdk::testing::instance_identity(&self.folder, "bank"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let url = format!("https://{}/readyz", self.address);
        let http = dujiang_sdk::testing::gateway_client();
        until("the bank is ready", || async {
            http.get(&url).send().await.ok().filter(|answer| answer.status().is_success())
        })
        .await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().unwrap().id();
        kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
    }

    /// SIGKILL, at once.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM; the exit code.
    pub(crate) async fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        let mut child = self.child.take().unwrap();
        tokio::task::spawn_blocking(move || child.wait().unwrap().code()).await.unwrap()
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.kill();
    }
}
