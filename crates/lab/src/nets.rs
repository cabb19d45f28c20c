//! Three data centers and the customers, each in a network of its own, joined by the wire.

use std::fs::File;
use std::io;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use dujiang_testkit::cluster::{DATA_CENTERS, Nets};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::gettid;
use tokio::runtime::{Builder, Handle};
use tokio_tun::Tun;

use crate::link::Link;
use crate::wire::{self, Links};

/// The first two numbers of all addresses.
const PREFIX: [u8; 2] = [10, 77];
/// The network device in each place.
const DEVICE: &str = "wire0";
/// From iproute2; not in the PATH of everybody.
const IP: &str = "/usr/sbin/ip";
/// The third number of the customers' and operators' addresses, and of each data center's.
const THIRD: [u8; 4] = [1, 11, 12, 13];
/// The place of customers, operators and tests.
pub const CUSTOMERS: usize = 0;
/// Between two data centers of a region, one way.
const NEAR_US: u64 = 1_000;
/// Between two regions, one way.
const FAR_US: u64 = 6_000;
/// Packets as on any Ethernet.
const MTU: i32 = 1_500;

/// Why a laboratory cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The kernel says no.
    #[error("cannot {doing}")]
    System {
        /// What was attempted.
        doing: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// A network device cannot be made.
    #[error("cannot make a network device: {0}")]
    Device(#[from] tokio_tun::Error),
}

impl LabError {
    fn system<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |source| Self::System { doing, source: source.into() }
    }
}

/// The laboratory. It lasts as long as the process that made it.
#[derive(Debug, Clone)]
pub struct Lab {
    links: Links,
    /// Where each place's network namespace is found; the customers' is the process's own.
    paths: Vec<String>,
}

impl Lab {
    /// Sets it up; `seed` decides which packets are lost, and how late the others are.
    pub fn set_up(seed: u64) -> Result<Self, LabError> {
        let (answer, answers) = mpsc::channel();
        let links = Links::new(THIRD.len());
        let shared = links.clone();
        // The devices are read by a runtime that nothing else keeps busy.
        thread::spawn(move || {
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = answer.send(Err(LabError::system::<io::Error>("start the wire")(error)));
                    return;
                }
            };
            let places = (0..THIRD.len()).map(|place| make_place(place, runtime.handle()));
            match places.collect::<Result<Vec<_>, _>>() {
                Ok(places) => {
                    let (devices, paths): (Vec<_>, Vec<_>) = places.into_iter().unzip();
                    let _ = answer.send(Ok(paths));
                    runtime.block_on(wire::forward(devices, shared, seed, place_of));
                }
                Err(error) => drop(answer.send(Err(error))),
            }
        });
        let ended = |_| LabError::system::<io::Error>("start the wire")(io::ErrorKind::BrokenPipe.into());
        let paths = answers.recv().map_err(ended)??;
        let lab = Self { links, paths };
        lab.heal();
        Ok(lab)
    }

    /// The networks as a platform's manifest needs them.
    pub fn nets(&self) -> Nets {
        let enter = |path: &String| vec!["nsenter".to_owned(), format!("--net={path}")];
        Nets {
            prefix: format!("{}.{}", PREFIX[0], PREFIX[1]),
            launchers: self.paths[1..].iter().map(enter).collect(),
            claim: None,
        }
    }

    /// The place of a data center by its name.
    pub fn place(name: &str) -> usize {
        DATA_CENTERS.iter().position(|dc| *dc == name).map_or(CUSTOMERS, |number| number + 1)
    }

    /// All links as they are when nothing is wrong.
    pub fn heal(&self) {
        for from in 0..THIRD.len() {
            for to in 0..THIRD.len() {
                self.links.change(from, to, |link| *link = usual(from, to));
            }
        }
    }

    /// Changes one direction of a link.
    pub fn change(&self, from: usize, to: usize, change: impl FnOnce(&mut Link)) {
        self.links.change(from, to, change);
    }

    /// Changes every direction of every link.
    pub fn change_all(&self, change: impl Fn(&mut Link)) {
        for from in 0..THIRD.len() {
            self.change_out(from, &change);
        }
    }

    /// Changes what leaves a place.
    pub fn change_out(&self, from: usize, change: impl Fn(&mut Link)) {
        for to in (0..THIRD.len()).filter(|to| *to != from) {
            self.links.change(from, to, &change);
        }
    }

    /// Changes what reaches a place.
    pub fn change_in(&self, to: usize, change: impl Fn(&mut Link)) {
        for from in (0..THIRD.len()).filter(|from| *from != to) {
            self.links.change(from, to, &change);
        }
    }

    /// Cuts a place off from all others.
    pub fn isolate(&self, place: usize) {
        self.change_out(place, |link| link.cut = true);
        self.change_in(place, |link| link.cut = true);
    }

    /// Runs something in a place's network, on a thread of its own with all that it starts.
    pub fn inside<T: Send + 'static>(
        &self,
        place: usize,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<Result<T, LabError>> {
        let path = self.paths[place].clone();
        thread::spawn(move || {
            let space = File::open(&path).map_err(LabError::system(format!("open {path}")))?;
            setns(space, CloneFlags::CLONE_NEWNET).map_err(LabError::system("enter a network"))?;
            Ok(body())
        })
    }
}

/// Data centers of a region are near to each other; customers are as near to each as these are.
fn usual(from: usize, to: usize) -> Link {
    let third = DATA_CENTERS.len();
    let far = (from == third) != (to == third);
    Link { delay_us: if far { FAR_US } else { NEAR_US }, ..Link::default() }
}

fn place_of(address: [u8; 4]) -> Option<usize> {
    (address[..2] == PREFIX).then_some(())?;
    THIRD.iter().position(|third| *third == address[2])
}

/// A place's network, with its device and where its namespace is found. The thread that made it keeps it.
fn make_place(place: usize, runtime: &Handle) -> Result<(Tun, String), LabError> {
    let (answer, answers) = mpsc::channel();
    let runtime = runtime.clone();
    thread::spawn(move || {
        let _runtime = runtime.enter();
        let _ = answer.send(make_here(place));
        // The namespace is named by this thread.
        loop {
            thread::park();
        }
    });
    let ended = |_| LabError::system::<io::Error>("make a network")(io::ErrorKind::BrokenPipe.into());
    answers.recv().map_err(ended)?
}

fn make_here(place: usize) -> Result<(Tun, String), LabError> {
    if place != CUSTOMERS {
        unshare(CloneFlags::CLONE_NEWNET).map_err(LabError::system("make a network namespace"))?;
    }
    let mut devices = Tun::builder().name(DEVICE).mtu(MTU).build()?;
    let net = format!("{}.{}.{}", PREFIX[0], PREFIX[1], THIRD[place]);
    // Hosts of a data center: agent, gateway and databases; instances of applications.
    ip(&["link", "set", "lo", "up"])?;
    ip(&["addr", "add", &format!("{net}.1/32"), "dev", DEVICE])?;
    ip(&["addr", "add", &format!("{net}.10/32"), "dev", DEVICE])?;
    ip(&["link", "set", DEVICE, "up"])?;
    let all = format!("{}.{}.0.0/16", PREFIX[0], PREFIX[1]);
    ip(&["route", "add", &all, "dev", DEVICE, "src", &format!("{net}.1")])?;
    let device = devices.pop().ok_or_else(|| {
        LabError::system::<io::Error>("make a network device")(io::ErrorKind::NotFound.into())
    })?;
    Ok((device, format!("/proc/{}/task/{}/ns/net", std::process::id(), gettid())))
}

fn ip(args: &[&str]) -> Result<(), LabError> {
    let doing = format!("run ip {}", args.join(" "));
    let output = Command::new(IP).args(args).output().map_err(LabError::system(doing.clone()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(LabError::System { doing, source: io::Error::other(said) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_far_from_each_other_and_everybody_has_an_address() {
        let (chengdu_1, chengdu_2, guiyang_1) =
            (Lab::place("chengdu-1"), Lab::place("chengdu-2"), Lab::place("guiyang-1"));
        assert_eq!((chengdu_1, chengdu_2, guiyang_1), (1, 2, 3));
        assert_eq!(usual(chengdu_1, chengdu_2).delay_us, NEAR_US);
        assert_eq!(usual(chengdu_2, guiyang_1).delay_us, FAR_US);
        assert_eq!(usual(guiyang_1, CUSTOMERS).delay_us, FAR_US);
        assert_eq!(place_of([10, 77, 13, 10]), Some(guiyang_1));
        assert_eq!(place_of([10, 78, 13, 10]), None);
        assert_eq!(place_of([10, 77, 14, 1]), None);
    }
}
