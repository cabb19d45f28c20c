//! `dujiang site drain|undrain DC`: whether customers are led to a site.

use std::time::{Duration, Instant};

use dujiang_control::{Sites, Status};
use dujiang_types::DcId;

use crate::client::Client;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::progress::Progress;

/// How long every gateway that lives may take to hear of it.
const HEARD_MAX: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Lead customers away from a site, or to it again
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  dujiang site drain chengdu-1\n  dujiang site undrain chengdu-1")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lead nobody new to a site: its name is not given any more, who is there is served to the end
    ///
    /// Returns when all gateways know and every resolver has forgotten what it was told before. Units stay where they
    /// are: move them with `dujiang move`.
    #[command(after_help = "Example:\n  dujiang site drain chengdu-1")]
    Drain(Order),
    /// Lead customers to a site again
    #[command(after_help = "Example:\n  dujiang site undrain chengdu-1")]
    Undrain(Order),
}

#[derive(Debug, clap::Args)]
struct Order {
    /// The site
    dc: DcId,
    /// Do not wait for gateways and resolvers
    #[arg(long)]
    no_wait: bool,
    /// How to print what was done
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let (order, verb) = match &args.command {
        Command::Drain(order) => (order, "drain"),
        Command::Undrain(order) => (order, "undrain"),
    };
    let client = Client::of(context)?;
    let progress = Progress::new();
    let sites: Sites = context.block_on(async {
        let sites: Sites = client.post(&format!("/v1/sites/{}/{verb}", order.dc), &()).await?;
        // Without names there is nothing to wait for.
        if !order.no_wait && sites.ttl_s > 0 {
            heard(&client, &sites, &progress).await?;
            if verb == "drain" {
                progress.say(format_args!("resolvers forget within {} s", sites.ttl_s));
                tokio::time::sleep(Duration::from_secs(u64::from(sites.ttl_s))).await;
            }
        }
        Ok(sites)
    })?;
    progress.clear();
    match order.output {
        Format::Json => output::json(&sites),
        Format::Table if sites.drained.is_empty() => output::line("customers are led to every site"),
        Format::Table => {
            let names: Vec<&str> = sites.drained.keys().map(DcId::as_str).collect();
            output::line(format_args!("customers are led away from {}", names.join(", ")))
        }
    }
}

/// Waits until every gateway that reports answers so.
async fn heard(client: &Client, sites: &Sites, progress: &Progress) -> Result<(), Failure> {
    let deadline = Instant::now() + HEARD_MAX;
    loop {
        let status: Status = client.get("/v1/status").await?;
        let behind = status.gateways.iter().filter(|(_, gateway)| gateway.known);
        let behind =
            behind.filter(|(_, g)| g.report.as_ref().is_none_or(|report| report.table < sites.revision));
        let behind: Vec<&str> = behind.map(|(dc, _)| dc.as_str()).collect();
        if behind.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::failed(format!(
                "the gateways of {} have not heard of it",
                behind.join(", ")
            ))
            .hint(
                "it is written, and they take it over as soon as they hear of it; look at `dujiang status`",
            ));
        }
        progress.say(format_args!("waiting for the gateways of {}", behind.join(", ")));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
