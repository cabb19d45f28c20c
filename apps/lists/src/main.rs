//! The lists as a program.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use dujiang_lists::{Lists, Plant};
use dujiang_sdk::{Options, Server};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Lists on the Dujiang platform, for tests of what it promises.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address to listen on.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// The units file the agent keeps.
    #[arg(long, value_name = "FILE")]
    units: PathBuf,
    /// File with the platform's secret.
    #[arg(long, value_name = "FILE")]
    secret: PathBuf,
    /// File with this instance's identity.
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// Make a mistake on purpose; may be repeated.
    #[arg(long, value_name = "MISTAKE")]
    plant: Vec<Plant>,
}

/// Two are enough: the work is waiting for the database.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // Told on stderr, that the log cannot be written would be a panic: stderr is that log.
    log.log_internal_errors(false).init();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build();
    let done = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(serve(args)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &*error, "the lists cannot run");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let options =
        Options { listen: args.listen, units: args.units, secret: args.secret, identity: args.identity };
    for plant in &args.plant {
        tracing::warn!(?plant, "a mistake is made on purpose");
    }
    let server = Server::bind(Lists::with(&args.plant), &options).await?;
    tracing::info!(address = %server.address()?, "listening");
    server
        .run(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("shutting down");
        })
        .await;
    Ok(())
}
