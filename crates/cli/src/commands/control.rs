//! `dujiang control`: the control plane's process.

use std::net::SocketAddr;
use std::sync::Arc;

use dujiang_control::{Options, Signing, Trust};
use dujiang_identity::{Folder, Identity, Name, Role};
use dujiang_types::DcId;

use crate::context::Context;
use crate::evidence_key;
use crate::failure::Failure;
use crate::logging;

/// Run the control plane (`up` does this)
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  dujiang control --data /var/lib/dujiang --listen 127.0.1.1:7000")]
pub struct Args {
    /// Its name among several control servers
    #[arg(long, default_value = "control")]
    name: String,
    /// The data center it stands in, if it stands in one
    #[arg(long)]
    dc: Option<DcId>,
    /// Where to listen
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// Where the records are kept: redb:PATH or etcd:https://ADDRESS:PORT,... [default: redb in --data]
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

/// It has the platform's authority, and so makes its own identity.
fn trust(args: &Args, context: &Context) -> Result<Trust, dujiang_identity::Error> {
    let folder = Folder::of(context.data());
    let authority = Arc::new(folder.platform()?);
    let name = match &args.dc {
        Some(dc) => Name::in_dc(authority.platform(), dc, Role::Control),
        None => Name::control(authority.platform()),
    };
    let identity = Identity::of_authority(Arc::clone(&authority), &name, &[args.listen.ip()])?;
    Ok(Trust { identity, authority, store_authority: Arc::new(folder.store()?) })
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    logging::to_stderr();
    logging::end_with_any_task();
    let store = args.store.clone().map_or_else(|| own_store(context), Ok)?;
    let trust =
        trust(args, context).map_err(|e| Failure::because("the platform's authority cannot be used", &e))?;
    let platform = trust.authority.platform().to_string();
    let signing = Signing { key: evidence_key::load_or_make(context.data(), None)?, platform };
    let options = Options {
        trust,
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
