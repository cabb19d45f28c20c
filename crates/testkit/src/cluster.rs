//! A whole platform of real processes for a test: its own networks, its own folder, gone when dropped.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use dujiang_types::{DcId, UnitId};
use tempfile::TempDir;
use tokio::process::Command;

use crate::journal::{Journal, JournalError};
use crate::load::{Load, LoadError, Mix, Options as LoadOptions, Patience};
use crate::platform::{BANK, LISTS, Platform, PlatformError};
use crate::processes::{self, Kind, Process};
use crate::status::{Control, Goal, Status, StatusError};
use crate::verify::{self, Report, UnitSource, VerifyError};

/// Data centers of a test platform, the third one in another region.
pub const DATA_CENTERS: [&str; 3] = ["chengdu-1", "chengdu-2", "guiyang-1"];
/// The site that has a vote and nothing else, where there is one.
pub const WITNESS: &str = "xian-w";
/// Any single command of ours: `up` of three units on two busy cores takes tens of seconds in a debug build.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(180);
/// For everything to be as it should be, on a machine that does other things, too.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Second number of the loopback networks of tests. Lower ones are left to people and examples.
const NETS: std::ops::Range<u16> = 64..250;
/// A listener on this port of a network's first address claims the network for one test.
const CLAIM_PORT: u16 = 6_999;
/// First port of the units' databases.
const DATABASE_PORT: u16 = 5_401;

/// A platform of three data centers with three units, one at home in each.
#[derive(Debug)]
pub struct Cluster {
    folder: Option<TempDir>,
    data: PathBuf,
    nets: Nets,
    programs: PathBuf,
    reaper: Child,
    _turn: Option<File>,
}

/// The networks of a platform's data centers, and how to get into them.
#[derive(Debug)]
pub struct Nets {
    /// The first two numbers of all addresses, such as `127.64`.
    pub prefix: String,
    /// For each data center the command its agent is launched with; empty where they share this machine's network.
    pub launchers: Vec<Vec<String>>,
    /// What keeps others from taking the same networks, if anything has to.
    pub claim: Option<TcpListener>,
}

/// Why a test platform does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The programs are not there.
    #[error("the programs cannot be built: {0}")]
    Programs(String),
    /// The file system or the kernel says no.
    #[error("cannot {doing}")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A command of ours failed.
    #[error("dujiang {command} ended with {status}: {output}")]
    Command {
        /// Its arguments.
        command: String,
        /// How it ended.
        status: String,
        /// What it printed.
        output: String,
    },
    /// The folder cannot be read.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The control plane says no or nothing, or what was waited for did not come.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The load failed.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The books cannot be read.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl ClusterError {
    fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

impl Cluster {
    /// Makes the folder and the manifest; starts nothing.
    pub fn prepare() -> Result<Self, ClusterError> {
        let programs = programs()?;
        let turn = take_turn().map_err(ClusterError::io("wait for other test platforms"))?;
        Self::place(programs, Some(turn), claim_net()?)
    }

    /// The same with a witness beside the two regions, for a control plane in the data centers ([`Cluster::up_ha`]).
    pub fn prepare_witnessed() -> Result<Self, ClusterError> {
        let cluster = Self::prepare()?;
        let witness = format!("witness: {{ name: {WITNESS}, network: {}.14.0/24 }}\n", cluster.nets.prefix);
        let mut text =
            fs::read_to_string(cluster.manifest()).map_err(ClusterError::io("read the manifest"))?;
        text.push_str(&witness);
        fs::write(cluster.manifest(), text).map_err(ClusterError::io("write the manifest"))?;
        Ok(cluster)
    }

    /// The same with networks of their own for the data centers. It does not wait for other test platforms: that is
    /// up to the caller ([`take_turn`]), who may have several of them.
    pub fn prepare_in(nets: Nets) -> Result<Self, ClusterError> {
        Self::place(programs()?, None, nets)
    }

    fn place(programs: PathBuf, turn: Option<File>, nets: Nets) -> Result<Self, ClusterError> {
        let folder = tempfile::Builder::new().prefix("dujiang-cluster-").tempdir();
        let folder = folder.map_err(ClusterError::io("make a folder"))?;
        // Run by root, PostgreSQL runs as another user, who has to get through here.
        let open = fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755));
        open.map_err(ClusterError::io("open the folder"))?;
        let data = folder.path().join("data");
        let reaper = reaper(&programs, &data).map_err(ClusterError::io("start the reaper"))?;
        let text = manifest(&nets, None);
        let cluster = Self { folder: Some(folder), data, nets, programs, reaper, _turn: turn };
        fs::write(cluster.manifest(), text).map_err(ClusterError::io("write the manifest"))?;
        Ok(cluster)
    }

    /// Adds the application of lists to the manifest, with one unit, at home in the first data center; its instances
    /// get these arguments. Before it is brought up.
    pub fn with_lists(self, args: &[&str]) -> Result<Self, ClusterError> {
        let text = manifest(&self.nets, Some(args));
        fs::write(self.manifest(), text).map_err(ClusterError::io("write the manifest"))?;
        Ok(self)
    }

    /// A platform that is up, with every replica in its sync set.
    pub async fn start() -> Result<Self, ClusterError> {
        let cluster = Self::prepare()?;
        cluster.up().await?;
        cluster.whole().await?;
        Ok(cluster)
    }

    /// The same with a control server and a member of etcd in every data center.
    pub async fn start_ha() -> Result<Self, ClusterError> {
        Self::prepare()?.up_ha().await
    }

    /// Brings it up with a control server and a member of etcd in every data center, until every replica counts.
    pub async fn up_ha(self) -> Result<Self, ClusterError> {
        let cluster = self;
        let manifest = cluster.manifest();
        cluster.dujiang(&["up", "--detach", "--ha", "-f", &manifest.to_string_lossy()]).await?;
        cluster.whole().await?;
        Ok(cluster)
    }

    /// The manifest.
    pub fn manifest(&self) -> PathBuf {
        self.folder.as_ref().map_or(&*self.data, TempDir::path).join("manifest.yaml")
    }

    /// The platform's folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A journal for loads of this platform.
    pub fn journal(&self) -> PathBuf {
        self.data.with_file_name("journal.jsonl")
    }

    /// `dujiang up --detach`; returns when it serves.
    pub async fn up(&self) -> Result<(), ClusterError> {
        let manifest = self.manifest();
        let manifest = manifest.to_string_lossy();
        self.dujiang(&["up", "--filename", &manifest, "--detach", "-o", "json"]).await.map(drop)
    }

    /// `dujiang down`.
    pub async fn down(&self) -> Result<(), ClusterError> {
        self.dujiang(&["down"]).await.map(drop)
    }

    /// Runs a command of ours on this platform; fails if its exit code is not 0.
    pub async fn dujiang(&self, args: &[&str]) -> Result<String, ClusterError> {
        let output = self.try_dujiang(args).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        let (command, status) = (args.join(" "), output.status.to_string());
        let output = format!("{}{}", text(&output.stderr), text(&output.stdout));
        Err(ClusterError::Command { command, status, output })
    }

    /// A command of ours on this platform, to be run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("dujiang"));
        command.args(args).arg("--data").arg(&self.data).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command of ours on this platform.
    pub async fn try_dujiang(&self, args: &[&str]) -> Result<Output, ClusterError> {
        let output = tokio::time::timeout(COMMAND_TIMEOUT, self.command(args).output()).await;
        let output = output.map_err(|elapsed| io::Error::new(io::ErrorKind::TimedOut, elapsed));
        output.flatten().map_err(ClusterError::io("run dujiang"))
    }

    /// The control plane.
    pub fn control(&self) -> Result<Control, ClusterError> {
        Ok(Control::of(&self.data)?)
    }

    /// Removes its folder, of which nobody lives any more, in order: killed databases have left shared memory behind, which
    /// would not go with the files.
    fn purge(&self) -> io::Result<()> {
        let mut command = process::Command::new(self.programs.join("dujiang"));
        command.args(["down", "--purge", "--yes", "--data"]).arg(&self.data).stdin(Stdio::null());
        let output = command.output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// Address of a data center's main host; `number` is its place in [`DATA_CENTERS`].
    pub fn host(&self, number: u8) -> String {
        format!("{}.{}.1", self.nets.prefix, 11 + number)
    }

    /// Waits until everything is as it should be.
    pub async fn whole(&self) -> Result<Status, ClusterError> {
        Ok(self.control()?.wait(Goal::Whole, PATIENCE, |_| {}).await?)
    }

    /// Waits until every unit serves.
    pub async fn serving(&self) -> Result<Status, ClusterError> {
        Ok(self.control()?.wait(Goal::Serving, PATIENCE, |_| {}).await?)
    }

    /// The platform as its folder tells.
    pub fn platform(&self) -> Result<Platform, ClusterError> {
        Ok(Platform::open(&self.data)?)
    }

    /// Starts a load of the bank that goes on until it is stopped.
    pub async fn load(&self, rate: u32, mix: Mix, seed: u64) -> Result<Load, ClusterError> {
        Ok(Load::start(self.load_options(BANK, rate, mix, seed)?).await?)
    }

    /// Starts a load of the lists that goes on until it is stopped, and then reads every list.
    pub fn load_lists(&self, rate: u32, seed: u64) -> Result<Load, ClusterError> {
        Ok(Load::of_lists(&self.load_options(LISTS, rate, Mix::default(), seed)?)?)
    }

    fn load_options(
        &self,
        application: &str,
        rate: u32,
        mix: Mix,
        seed: u64,
    ) -> Result<LoadOptions, ClusterError> {
        let platform = self.platform()?;
        Ok(LoadOptions {
            units: platform.unit_slots(application),
            gateways: platform.gateways,
            rate,
            duration: None,
            accounts: 60,
            mix,
            seed,
            journal: self.journal(),
            patience: Patience::default(),
        })
    }

    /// Checks the books against the journal, which covers the whole life of the platform.
    pub async fn verify(&self) -> Result<Report, ClusterError> {
        let journal = Journal::read(&self.journal())?;
        let sources = UnitSource::of_platform(&self.platform()?);
        let options = verify::Options { whole_life: true, ..verify::Options::default() };
        Ok(verify::verify(&sources, Some(&journal), options, |_| {}).await?)
    }

    /// Living processes of a kind, of one data center if it is given.
    pub fn processes(&self, kind: &Kind, dc: Option<&DcId>) -> Result<Vec<Process>, ClusterError> {
        let found = processes::find(&self.data, dc).map_err(ClusterError::io("look for processes"))?;
        Ok(found.into_iter().filter(|process| process.kind == *kind).collect())
    }

    /// The first process of a unit's database in a data center, if it runs.
    pub fn postmaster(&self, dc: &DcId, unit: &UnitId) -> Result<Option<Process>, ClusterError> {
        processes::postmaster(&self.data, dc, unit).map_err(ClusterError::io("look for a database"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // All is done here, and a folder that is kept must not be purged behind our back.
        if let Err(error) = self.reaper.kill().and_then(|()| self.reaper.wait()) {
            tracing::warn!(%error, "the reaper of a test platform cannot be ended");
        }
        if self.data.exists()
            && let Err(error) = processes::kill_all(&self.data, None)
        {
            tracing::error!(%error, "processes of a test platform are left over");
        }
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            // What the processes logged is what one looks for first.
            eprintln!("the platform's folder is kept: {}", folder.keep().display());
        } else if self.data.exists()
            && let Err(error) = self.purge()
        {
            tracing::warn!(%error, "a test platform leaves shared memory of its databases behind");
        }
    }
}

/// A process that waits for the end of this one, however it ends, and then takes the platform down: a test that is
/// killed leaves nothing running. It has a session of its own, so that what kills the test does not kill it, too.
fn reaper(programs: &Path, data: &Path) -> io::Result<Child> {
    // The pipe to its standard input is closed by the kernel when nobody holds the other end any more.
    let script = "cat >/dev/null; exec \"$0\" down --purge --yes --data \"$1\"";
    let mut command = process::Command::new("setsid");
    command.args(["sh", "-c", script]).arg(programs.join("dujiang")).arg(data);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

/// Three data centers, three units of the bank; the same ports in every network. With arguments for their instances also
/// the lists, and a unit of theirs.
fn manifest(nets: &Nets, lists: Option<&[&str]>) -> String {
    use std::fmt::Write as _;
    let prefix = &nets.prefix;
    let mut text = format!("platform: test-{}\n", prefix.replace('.', "-"));
    if !prefix.starts_with("127.") {
        text.push_str("allow_non_loopback: true\n");
    }
    let _ = write!(text, "control:\n  listen: {prefix}.1.1:7000\nregions:\n");
    for (region, dcs) in [("chengdu", 0..2), ("guiyang", 2..3)] {
        let _ = writeln!(text, "  - name: {region}\n    data_centers:");
        for dc in dcs {
            let name = DATA_CENTERS[dc];
            let _ = writeln!(text, "      - name: {name}\n        network: {prefix}.{}.0/24", 11 + dc);
            let _ = writeln!(text, "        gateway: {{ port: 8080, threads: 1 }}");
            if let Some(launcher) = nets.launchers.get(dc) {
                let _ = writeln!(text, "        launcher: {launcher:?}");
            }
        }
    }
    let all = DATA_CENTERS.join(", ");
    let _ = write!(
        text,
        "applications:
  - name: bank
    program: dujiang-bank
    data_centers: [{all}]
    instances: 1
    port: 9000
    routes:
      - {{ prefix: /v1/customers/, key: {{ in: segment, form: hash }} }}
      - {{ prefix: /v1/accounts/, key: {{ in: segment, form: account }} }}
      - {{ prefix: /v1/messages/, key: {{ in: segment, form: account }} }}
      - {{ prefix: /, key: {{ in: none }} }}
    dns: {{ zone: bank.example, names: [www], port: 5300, ttl_s: 2 }}
"
    );
    if let Some(args) = lists {
        let _ = write!(
            text,
            "  - name: lists
    program: dujiang-lists
    args: {args:?}
    data_centers: [{all}]
    instances: 1
    port: 9100
    routes:
      - {{ prefix: /v1/lists/, key: {{ in: segment, form: hash }} }}
"
        );
    }
    text.push_str("units:\n");
    let slots = ["0-5460", "5461-10922", "10923-16383"];
    let bank = DATA_CENTERS.iter().zip(slots).map(|(home, slots)| (BANK, *home, slots));
    let lists = lists.map(|_| (LISTS, DATA_CENTERS[0], "0-16383"));
    for (number, (application, home, slots)) in bank.chain(lists).enumerate() {
        let port = usize::from(DATABASE_PORT) + number;
        let _ = write!(
            text,
            "  - name: unit-{}
    application: {application}
    home: {home}
    replicas: [{all}]
    slots: [{slots}]
    durability: zero
    port: {port}
",
            number + 1
        );
    }
    text
}

/// Waits until no other test platform of this user is up: two of them on a few cores would only slow each other down
/// until deadlines pass. The kernel lets go of the lock when the test ends, however it ends.
pub fn take_turn() -> io::Result<File> {
    let name = format!("dujiang-test-platform-{}.lock", nix::unistd::geteuid());
    let file = File::options().create(true).append(true).open(std::env::temp_dir().join(name))?;
    file.lock()?;
    Ok(file)
}

/// A network nobody else uses, and the listener that keeps it so.
fn claim_net() -> Result<Nets, ClusterError> {
    let count = NETS.end - NETS.start;
    let first = u16::try_from(std::process::id() % u32::from(count)).unwrap_or_default();
    for step in 0..count {
        let net = u8::try_from(NETS.start + (first + step) % count).unwrap_or(u8::MAX);
        if let Ok(claim) = TcpListener::bind((format!("127.{net}.0.1"), CLAIM_PORT)) {
            let prefix = format!("127.{net}");
            return Ok(Nets { prefix, launchers: Vec::new(), claim: Some(claim) });
        }
    }
    let none = io::Error::new(io::ErrorKind::AddrInUse, "all loopback networks are in use");
    Err(ClusterError::Io { doing: "find a network", source: none })
}

/// Folder with the programs, built from the sources as they are: a test must not run yesterday's binary.
fn programs() -> Result<PathBuf, ClusterError> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(build).clone().map_err(ClusterError::Programs)
}

fn build() -> Result<PathBuf, String> {
    // Tests lie in TARGET/PROFILE/deps, programs in TARGET/PROFILE.
    let test = std::env::current_exe().map_err(|e| e.to_string())?;
    let folder = test.parent().ok_or("the test lies in no folder")?;
    let profile = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    let profile = profile.ok_or("the test lies in no target folder")?;
    let target = profile.parent().ok_or("the test lies in no target folder")?;
    let mut command = process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let packages = ["-p", "dujiang-cli", "-p", "dujiang-bank", "-p", "dujiang-lists"];
    command.args(["build", "--quiet"]).args(packages).arg("--target-dir").arg(target);
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        Ok(profile.to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
