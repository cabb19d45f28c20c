//! `dujiang store`: the control store as a whole.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dujiang_agent::files;
use dujiang_store::Backup;
use dujiang_store::backup::{BACKUP_BYTES_MAX, Content};
use dujiang_types::{DcId, UnitId};
use jiff::Timestamp;
use serde::Serialize;

use crate::client::Client;
use crate::commands::version::VERSION;
use crate::context::Context;
use crate::failure::Failure;
use crate::manifest::check::Programs;
use crate::manifest::{ControlPlane, Manifest};
use crate::output::{self, Format};
use crate::progress::{Progress, confirm};
use crate::store::members::{self, Site};
use crate::store::operator;
use crate::store::recover;
use crate::store::restore::{self, Put};
use crate::supervisor::folder::{Folder, Lock};
use crate::supervisor::processes;

/// Characters of a request's number: enough to tell the few there ever are apart.
const REQUEST_ID_LEN: usize = 6;

/// Back up, put back, re-form, or make room in the control store
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dujiang store backup /srv/backup/two-regions.store
  dujiang store compact")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Backup(BackupArgs),
    Restore(RestoreArgs),
    Recover(RecoverArgs),
    Compact(CompactArgs),
}

/// Write all records to a file, as of one moment
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file holds every record at one revision, with the platform's name, the time and a checksum. It appears whole or not
at all, and only its owner may read it. Databases are not in it: money is kept by the units' own replicas.

Example:
  dujiang store backup /srv/backup/two-regions.store")]
struct BackupArgs {
    /// The file to write
    file: PathBuf,
    /// How to print what was done
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Replace the control store by a backup, while the platform is stopped
///
/// No decision of the backup is taken for the present: every unit's home and epoch are learned from the agents of all
/// of its replicas, and an election above everything they have seen finds who holds every acknowledged payment.
/// Payments made since the backup stay. What was changed in the records since (units made or deleted, specs, operations)
/// is not in the backup: units that exist are looked for when they are put anew; deleted ones come back unless --without
/// names them. The store that is replaced is kept beside the new one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  dujiang down
  dujiang store restore /srv/backup/two-regions-2026-11-23.store
  dujiang up")]
struct RestoreArgs {
    /// The backup
    file: PathBuf,
    /// A unit that was deleted since the backup and shall not come back
    #[arg(long, value_name = "UNIT")]
    without: Vec<UnitId>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// How to print what was done
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Forget the history of the records and give its space back
#[derive(Debug, clap::Args)]
#[command(after_help = "\
History is forgotten by itself after some time; this is for a store whose size has raised an alarm. It also gives the
space back on every member of etcd and lifts its NOSPACE alarm.

Example:
  dujiang store compact")]
struct CompactArgs {}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    match &args.command {
        Command::Backup(args) => back_up(args, context),
        Command::Restore(args) => put_back(args, context),
        Command::Recover(args) => recover_store(args, context),
        Command::Compact(args) => compact(args, context),
    }
}

/// What `backup -o json` prints.
#[derive(Debug, Serialize)]
struct BackedUp<'a> {
    file: &'a Path,
    platform: &'a str,
    revision: u64,
    entries: usize,
    bytes: usize,
}

fn back_up(args: &BackupArgs, context: &Context) -> Result<(), Failure> {
    let manifest = manifest_in_force(&folder_of(context)?)?;
    let client = Client::of(context)?;
    let records: Content = context.block_on(client.get("/v1/store/backup"))?;
    let backup = Backup::new(records, manifest.platform.as_str(), VERSION, Timestamp::now());
    let bytes = backup.encode().map_err(|e| Failure::because("the backup cannot be written", &e))?;
    // Read as a restore would: a backup that cannot be read is none.
    Backup::decode(&bytes).map_err(|e| Failure::because("the backup cannot be read back", &e))?;
    let file = std::path::absolute(&args.file)
        .map_err(|e| Failure::usage(format!("{}: {e}", args.file.display())))?;
    files::write_durably(&file, &bytes, files::MODE_SECRET)
        .map_err(|e| Failure::because(format!("cannot write {}", file.display()), &e))?;
    let header = &backup.header;
    match args.output {
        Format::Json => output::json(&BackedUp {
            file: &file,
            platform: &header.platform,
            revision: header.revision.0,
            entries: header.entries,
            bytes: bytes.len(),
        }),
        Format::Table => output::line(format_args!(
            "{} records of {} at revision {} are in {}",
            header.entries,
            header.platform,
            header.revision,
            file.display()
        )),
    }
}

fn put_back(args: &RestoreArgs, context: &Context) -> Result<(), Failure> {
    let backup = read(&args.file)?;
    let folder = folder_of(context)?;
    let mut manifest = manifest_in_force(&folder)?;
    if backup.header.platform != manifest.platform.as_str() {
        let (theirs, ours) = (&backup.header.platform, &manifest.platform);
        return Err(Failure::usage(format!("it is a backup of platform {theirs}, and this is {ours}")));
    }
    if folder.has_etcd() {
        manifest.control = ControlPlane::Everywhere;
    }
    let _lock = lock(&folder)?;
    let header = &backup.header;
    if !args.yes {
        confirm(&format!(
            "This replaces the records of {} by those of {:.0} (revision {}). Units made, deleted or changed since are not in \
             it. Payments are not touched. Go on?",
            header.platform, header.taken_at, header.revision
        ))?;
    }
    let without: BTreeSet<UnitId> = args.without.iter().cloned().collect();
    let order = dujiang_control::restore::order(header, &crate::asked_by::me(), without, Timestamp::now());
    let progress = Progress::new();
    progress.say("putting the records back");
    let put = context.block_on(restore::put(&folder, &manifest, &backup.entries, &order));
    progress.clear();
    report(args.output, &put?)
}

fn report(format: Format, put: &Put) -> Result<(), Failure> {
    match format {
        Format::Json => output::json(put),
        Format::Table => {
            output::line(format_args!(
                "{} records are put back; revisions go on above {}",
                put.entries, put.revision
            ))?;
            for kept in &put.kept {
                output::line(format_args!("what was replaced is kept in {}", kept.display()))?;
            }
            output::line(
                "start the platform with `dujiang up`: each unit serves once all of its replicas have reported",
            )
        }
    }
}

fn compact(_: &CompactArgs, context: &Context) -> Result<(), Failure> {
    let client = Client::of(context)?;
    let failed = context.block_on(async { Ok(client.post_to_all("/v1/store/compact").await) })?;
    if let Some((url, failure)) = failed.first() {
        return Err(Failure::failed(format!("{url}: {}", failure.message()))
            .hint("the other control servers were asked, too; try again when this one answers"));
    }
    output::line("the history is forgotten, and its space is given back")
}

/// Re-form the control store from its last member, after the others were lost with their region
///
/// Takes two operators, because it gives up what only the lost members knew: one asks, another one approves, at the
/// surviving site. They are told apart by their identities, as when the control plane is up: make one where the
/// platform's authority lies with `dujiang operator create`. Units are treated as after a restore: each waits for the agents of all of its replicas, or for an
/// order to promote one without proof. The data of the lost members is put aside wherever it can be reached; a member
/// of the lost region must NEVER be started with its old data: it would not know that it was replaced. From then on the
/// store has one member; a backup and a restore give every data center one again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dujiang down
  dujiang store recover --from guiyang-1 --reason earthquake --request      prints the request's number
  dujiang store recover --approve 0192f3 --identity li.pem                  by another operator
  dujiang up")]
struct RecoverArgs {
    /// The site of the member that is left
    #[arg(long, value_name = "SITE", requires = "reason", required_unless_present = "approve")]
    from: Option<DcId>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Ask for it; somebody else has to approve
    #[arg(long, required_unless_present = "approve", conflicts_with = "approve")]
    request: bool,
    /// Approve the request of another operator, and carry it out
    #[arg(long, value_name = "REQUEST", conflicts_with_all = ["from", "reason"])]
    approve: Option<String>,
    /// How to print what was done
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

fn recover_store(args: &RecoverArgs, context: &Context) -> Result<(), Failure> {
    let folder = folder_of(context)?;
    let mut manifest = manifest_in_force(&folder)?;
    if !folder.has_etcd() {
        return Err(Failure::usage("the records of this platform are in a file, not in members")
            .hint("`dujiang store restore` puts a backup of it back"));
    }
    manifest.control = ControlPlane::Everywhere;
    let me = context.block_on(operator::proven(context, &folder))?;
    let now = Timestamp::now();
    if let Some(id) = &args.approve {
        let _lock = lock(&folder)?;
        let request = recover::approvable(&folder, id, &me, now)?;
        manifest.control_sites = BTreeSet::from([request.from.clone()]);
        let progress = Progress::new();
        progress.say("re-forming the store");
        let put = context.block_on(async {
            let site = site(&folder, &manifest, &request.from)?;
            let recovered = recover::read(&folder, &site, &request, &me, now).await?;
            restore::put(&folder, &manifest, &recovered.saved, &recovered.order).await
        });
        progress.clear();
        let put = put?;
        recover::done(&folder)?;
        return report(args.output, &put);
    }
    let (Some(from), Some(reason)) = (&args.from, &args.reason) else {
        return Err(Failure::usage("say which member is left with --from SITE, and why with --reason TEXT"));
    };
    site(&folder, &manifest, from)?;
    if manifest.witness.as_ref().is_some_and(|witness| witness.name == *from) {
        return Err(Failure::usage(format!(
            "{from} is a witness: there is no control server to lead over its member"
        ))
        .hint("name a data center"));
    }
    refuse_if_led(context)?;
    let id = uuid::Uuid::new_v4().simple().to_string()[..REQUEST_ID_LEN].to_owned();
    let (platform, from, reason) = (manifest.platform.to_string(), from.clone(), reason.clone());
    let request = recover::Request { id, platform, from, reason, asked_by: me, asked_at: now };
    recover::request(&folder, &request)?;
    match args.output {
        Format::Json => output::json(&request),
        Format::Table => output::line(format_args!(
            "asked for by {}; another operator approves with: dujiang store recover --approve {}",
            request.asked_by, request.id
        )),
    }
}

fn site(folder: &Folder, manifest: &Manifest, dc: &DcId) -> Result<Site, Failure> {
    let sites = members::sites(folder, manifest);
    sites.into_iter().find(|site| site.name == *dc && site.dir.exists()).ok_or_else(|| {
        Failure::usage(format!("{dc} has no member of the control store"))
            .hint(format!("there has to be one in {}/dc/{dc}/etcd", folder.path().display()))
    })
}

/// A store that can decide needs nobody to recover it.
fn refuse_if_led(context: &Context) -> Result<(), Failure> {
    let Ok(client) = Client::of(context) else { return Ok(()) };
    let status: Result<dujiang_control::Status, Failure> = context.block_on(client.get("/v1/status"));
    match status {
        Ok(status) if !status.leader.is_empty() => {
            Err(Failure::refused(format!("the control plane works: the server of {} leads", status.leader)))
        }
        _ => Ok(()),
    }
}

/// Nobody else uses the folder as long as it is held.
fn lock(folder: &Folder) -> Result<Lock, Failure> {
    match folder.lock()? {
        Ok(lock) if processes::of(folder.path(), None).is_empty() => Ok(lock),
        _ => Err(Failure::refused("the platform runs").hint(
            "a store is replaced only while nobody uses it: stop everything with `dujiang down` first",
        )),
    }
}

/// A backup that is whole.
fn read(file: &Path) -> Result<Backup, Failure> {
    let cannot = |e: &dyn std::error::Error| Failure::because(format!("cannot read {}", file.display()), e);
    let size = std::fs::metadata(file).map_err(|e| cannot(&e))?.len();
    if size > BACKUP_BYTES_MAX {
        return Err(Failure::usage(format!("{} is larger than any backup", file.display())));
    }
    let bytes = std::fs::read(file).map_err(|e| cannot(&e))?;
    Backup::decode(&bytes).map_err(|error| {
        Failure::usage(format!("{} cannot be restored: {error}", file.display()))
            .hint("nothing was changed; take another backup")
    })
}

/// The folder of the platform, which need not run.
pub(super) fn folder_of(context: &Context) -> Result<Folder, Failure> {
    Folder::find(context.data())?.ok_or_else(|| {
        Failure::unreachable(format!("there is no platform in {}", context.data().display()))
            .hint("name its folder with --data DIR")
    })
}

/// The manifest it was started with last.
pub(super) fn manifest_in_force(folder: &Folder) -> Result<Manifest, Failure> {
    let (manifest, _) = Manifest::read(&folder.manifest(), &Programs::of_this_process())
        .map_err(|refused| Failure::of_manifest(&refused))?;
    Ok(manifest)
}
