//! What becomes of a process whose log cannot be written: nothing.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dujiang_identity::{Folder, Policy};
use dujiang_types::PlatformId;

/// Far more than a start takes.
const DEADLINE: Duration = Duration::from_secs(60);

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_lives_on_when_its_log_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    Folder::of(data).prepare(&PlatformId::new("full").unwrap(), Policy::default()).unwrap();
    let dujiang = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dujiang"));
        command
            .arg("--data")
            .arg(data)
            .env("DUJIANG_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    };
    let operator = data.join("zhang.pem");
    let made = dujiang().args(["operator", "create", "zhang", "--out"]).arg(&operator).status().unwrap();
    assert!(made.success());

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut control = dujiang();
    control.args(["control", "--listen", &free.to_string()]).stderr(full);
    let mut control = Killed(control.spawn().unwrap());
    let began = Instant::now();
    let answers = || {
        let mut get = dujiang();
        get.args(["get", "units", "--control", &format!("https://{free}"), "--identity"]).arg(&operator);
        get.stderr(Stdio::null()).status().unwrap().success()
    };
    while !answers() {
        assert_eq!(control.0.try_wait().unwrap(), None, "it has ended");
        assert!(began.elapsed() < DEADLINE, "it does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
}
