//! `dujiang agent`: the host agent's process.

use dujiang_agent::Options;
use dujiang_types::DcId;
use tokio::signal::unix::{SignalKind, signal};

use crate::context::Context;
use crate::failure::Failure;
use crate::logging;

/// A lease must be renewed while another task waits for a disk.
const THREADS: usize = 2;

/// Run a data center's agent (`up` does this)
#[derive(Debug, clap::Args)]
#[command(after_help = "\
SIGTERM stops everything of the data center in order: gateway and applications first, then databases.

Example:
  dujiang agent --dc chengdu-1 --control http://127.0.1.1:7000 --data /var/lib/dujiang")]
pub struct Args {
    /// The data center
    #[arg(long)]
    dc: DcId,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    logging::to_stderr();
    let control = context.controls()?;
    let options = Options::new(args.dc.clone(), control, context.data().to_owned());
    let options = options.map_err(|e| Failure::because("cannot tell which program this is", &e))?;
    context.block_on_threads(THREADS, async {
        let listen = |kind| signal(kind).map_err(|e| Failure::because("cannot listen for signals", &e));
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        dujiang_agent::run(options, shutdown).await.map_err(|e| Failure::because("the agent cannot run", &e))
    })
}
