//! `dujiang agent`: the host agent's process.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use dujiang_agent::Options;
use dujiang_identity::Identity;
use dujiang_types::DcId;
use tokio::signal::unix::{SignalKind, signal};

use crate::context::Context;
use crate::failure::Failure;
use crate::logging;
use crate::token;

/// A lease must be renewed while another task waits for a disk.
const THREADS: usize = 2;

/// Run a data center's agent (`up` does this)
#[derive(Debug, clap::Args)]
#[command(after_help = "\
SIGTERM stops everything of the data center in order: gateway and applications first, then databases.

A machine whose agent has no identity yet joins with a token, which works once. The file keeps it out of the list of
processes; an agent that has an identity which holds does not look at it.

Examples:
  dujiang agent --dc chengdu-1 --control https://127.0.1.1:7000 --data /var/lib/dujiang \\
    --identity /var/lib/dujiang/dc/chengdu-1/identity/agent.pem
  dujiang agent --dc chengdu-1 --control https://127.0.1.1:7000 --join /root/chengdu-1.token")]
pub struct Args {
    /// The data center
    #[arg(long)]
    dc: DcId,
    /// A data center and its main host, once for each of a platform that has a member of the control plane in every
    /// data center: the agent then runs the one here
    #[arg(long = "member", value_name = "DC=IP", value_parser = member)]
    members: Vec<(DcId, IpAddr)>,
    /// A file with a token of `dujiang token create`, by which an agent that has no identity gets its first one
    #[arg(long, value_name = "FILE")]
    join: Option<PathBuf>,
    /// Be a witness: run the member of the control store, and nothing else
    #[arg(long, requires = "members")]
    witness: bool,
}

fn member(text: &str) -> Result<(DcId, IpAddr), String> {
    let (dc, host) = text.split_once('=').ok_or("write DC=IP")?;
    Ok((DcId::new(dc).map_err(|e| e.to_string())?, host.parse().map_err(|e| format!("{host}: {e}"))?))
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    logging::to_stderr();
    logging::end_with_any_task();
    let control = context.required_controls()?;
    let identity = match &args.join {
        Some(file) => joined(file, &args.dc, &control, context)?,
        None => context.required_identity()?,
    };
    let options = Options::new(args.dc.clone(), control, context.data().to_owned(), identity);
    let mut options = options.map_err(|e| Failure::because("cannot tell which program this is", &e))?;
    options.members = args.members.iter().cloned().collect();
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
        let ended = if args.witness {
            dujiang_agent::witness(options, shutdown).await
        } else {
            dujiang_agent::run(options, shutdown).await
        };
        ended.map_err(|e| Failure::because("the agent cannot run", &e))
    })
}

/// The identity there is if it holds, or else the one that the token gets.
fn joined(file: &Path, dc: &DcId, control: &[String], context: &Context) -> Result<Identity, Failure> {
    let token = token::read(file)?;
    let own = context
        .identity()
        .map_or_else(|| dujiang_agent::identity_file(context.data(), dc, &token), Path::to_path_buf);
    if let Ok(identity) = Identity::from_file(&own)
        && identity.not_after() > SystemTime::now()
    {
        tracing::info!(identity = %identity.name(), "there is an identity that holds; the token is not needed");
        return Ok(identity);
    }
    context.block_on(async {
        dujiang_agent::join(&token, dc, control, &own)
            .await
            .map_err(|error| Failure::because("this machine cannot join", &error))
    })?;
    Identity::from_file(&own).map_err(|error| Failure::because("the identity cannot be used", &error))
}
