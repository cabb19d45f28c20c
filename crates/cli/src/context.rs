//! What every subcommand shares: the platform's folder, the control plane's address, the async runtime.

use std::future::Future;
use std::path::{Path, PathBuf};

use dujiang_identity::Identity;

use crate::failure::Failure;
use crate::supervisor::identities::operator_file;

/// Folder of a platform run by root.
const DATA_ROOT: &str = "/var/lib/dujiang";

/// Options every subcommand takes.
#[derive(Debug, clap::Args)]
pub struct Globals {
    /// The platform's folder [default: /var/lib/dujiang for root, else ~/.local/share/dujiang]
    #[arg(long, global = true, env = "DUJIANG_DATA", value_name = "DIR", hide_env = true)]
    data: Option<PathBuf>,
    /// The control plane's URL; several are tried in turn [default: that of the platform in --data]
    #[arg(
        long,
        global = true,
        env = "DUJIANG_CONTROL",
        value_name = "URL",
        hide_env = true,
        value_delimiter = ','
    )]
    control: Vec<String>,
    /// The identity to act under [default: operator.pem in --data]
    #[arg(long, global = true, env = "DUJIANG_IDENTITY", value_name = "FILE", hide_env = true)]
    identity: Option<PathBuf>,
}

/// What every subcommand shares.
#[derive(Debug)]
pub struct Context {
    data: PathBuf,
    control: Vec<String>,
    identity: Option<PathBuf>,
}

impl Context {
    /// Resolves the options; creates nothing.
    pub fn new(globals: Globals) -> Result<Self, Failure> {
        let data = match globals.data {
            Some(data) => std::path::absolute(&data)
                .map_err(|e| Failure::usage(format!("--data {}: {e}", data.display())))?,
            None => default_data()?,
        };
        Ok(Self { data, control: globals.control, identity: globals.identity })
    }

    /// The platform's folder, absolute. It need not exist.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The file of the identity that was named.
    pub fn identity(&self) -> Option<&Path> {
        self.identity.as_deref()
    }

    /// The same for processes that cannot do without.
    pub fn required_identity(&self) -> Result<Identity, Failure> {
        let file = self.identity().ok_or_else(|| {
            Failure::usage("the process's identity is missing").hint("name its file with --identity FILE")
        })?;
        read_identity(file)
    }

    /// The identity of who runs a command.
    pub fn operator(&self) -> Result<Identity, Failure> {
        let own = operator_file(&self.data);
        let file = self.identity().unwrap_or(&own);
        read_identity(file).map_err(|failure| {
            failure.hint("name the file of your identity with --identity FILE, or run this as the user who runs the platform")
        })
    }

    /// Every URL of the control plane that was given.
    pub fn controls(&self) -> &[String] {
        &self.control
    }

    /// The same for processes that cannot do without.
    pub fn required_controls(&self) -> Result<Vec<String>, Failure> {
        if self.control.is_empty() {
            return Err(
                Failure::usage("the control plane's URL is missing").hint("name it with --control URL")
            );
        }
        Ok(self.control.clone())
    }

    /// Runs a future on a single-threaded runtime: for everything that mostly waits.
    pub fn block_on<T>(&self, future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|e| Failure::failed(format!("cannot start the async runtime: {e}")))?.block_on(future)
    }

    /// Runs a future on a runtime with that many worker threads: for what keeps more than one core busy.
    pub fn block_on_threads<T>(
        &self,
        threads: usize,
        future: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
        runtime.map_err(|e| Failure::failed(format!("cannot start the async runtime: {e}")))?.block_on(future)
    }
}

fn read_identity(file: &Path) -> Result<Identity, Failure> {
    Identity::from_file(file).map_err(|error| Failure::because("the identity cannot be used", &error))
}

fn default_data() -> Result<PathBuf, Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from(DATA_ROOT));
    }
    // Relative paths in XDG variables are to be ignored, says their specification.
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("dujiang"))
        .ok_or_else(|| {
            Failure::usage("neither XDG_DATA_HOME nor HOME is set").hint("say where with --data DIR")
        })
}
