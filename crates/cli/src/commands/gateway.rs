//! `dujiang gateway`: the access layer's process.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use dujiang_gateway::{AccessLog, Options};
use dujiang_types::DcId;
use dujiang_types::loss::ANSWERS_FILE;

use crate::context::Context;
use crate::failure::Failure;
use crate::logging;

/// Run a data center's gateway (its agent does this)
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  dujiang gateway --dc chengdu-1 --control https://127.0.1.1:7000 --listen 127.0.11.1:8080 --mesh 127.0.11.1:7200 \\
    --admin 127.0.11.1:7201 --threads 1 --cache routing.json \\
    --identity gateway.pem")]
pub struct Args {
    /// The data center
    #[arg(long)]
    dc: DcId,
    /// Where clients connect
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// Where other data centers' gateways connect
    #[arg(long, value_name = "ADDR")]
    mesh: SocketAddr,
    /// Where health checks and metrics are answered
    #[arg(long, value_name = "ADDR")]
    admin: SocketAddr,
    /// Worker threads, each with its own listeners
    #[arg(long, default_value_t = 1)]
    threads: u16,
    /// File that keeps the last routing table
    #[arg(long, value_name = "FILE")]
    cache: PathBuf,
    /// Where finished requests are written down: stdout, off, or a file
    #[arg(long, value_name = "WHERE", default_value = "stdout")]
    access_log: Where,
}

/// The places of an access log as words.
#[derive(Debug, Clone)]
struct Where(AccessLog);

impl FromStr for Where {
    type Err = Infallible;
    fn from_str(word: &str) -> Result<Self, Infallible> {
        Ok(Self(match word {
            "stdout" => AccessLog::Stdout,
            "off" => AccessLog::Off,
            file => AccessLog::File(file.into()),
        }))
    }
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    logging::to_stderr();
    let options = Options {
        control: context.required_controls()?,
        listen: args.listen,
        mesh: args.mesh,
        admin: args.admin,
        threads: usize::from(args.threads),
        access_log: args.access_log.0.clone(),
        answers: Some(args.cache.with_file_name(ANSWERS_FILE)),
        ..Options::new(args.dc.clone(), context.required_identity()?, args.cache.clone())
    };
    dujiang_gateway::run(options).map_err(|e| Failure::because("the gateway cannot run", &e))
}
