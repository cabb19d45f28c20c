//! `dujiang control`: the control plane's process.

use std::net::SocketAddr;

use dujiang_control::{Options, Signing};

use crate::context::Context;
use crate::evidence_key;
use crate::failure::Failure;
use crate::logging;
use crate::platform::Running;

/// Run the control plane (`up` does this)
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  dujiang control --data /var/lib/dujiang --listen 127.0.1.1:7000")]
pub struct Args {
    /// Its name among several control servers
    #[arg(long, default_value = "control")]
    name: String,
    /// Where to listen
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// Where the records are kept: redb:PATH or etcd:URL,URL [default: redb in --data]
    #[arg(long)]
    store: Option<String>,
}

/// The file that keeps the records if nothing else was named.
fn own_store(context: &Context) -> Result<String, Failure> {
    let folder = context.data().join("control");
    std::fs::create_dir_all(&folder)
        .map_err(|e| Failure::because(format!("cannot create {}", folder.display()), &e))?;
    Ok(format!("redb:{}", folder.join("store.redb").display()))
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    logging::to_stderr();
    let store = args.store.clone().map_or_else(|| own_store(context), Ok)?;
    // A control plane that was started by hand belongs to no platform that has a name.
    let platform =
        Running::find(context.data())?.map_or_else(|| "unnamed".to_owned(), |running| running.platform);
    let signing = Signing { key: evidence_key::load_or_make(context.data(), None)?, platform };
    let options = Options {
        name: args.name.clone(),
        listen: args.listen,
        store,
        timing: dujiang_unit::Timing::default(),
        signing,
    };
    context.block_on(async {
        dujiang_control::serve(options)
            .await
            .map_err(|e| Failure::because("the control plane cannot run", &e))
    })
}
