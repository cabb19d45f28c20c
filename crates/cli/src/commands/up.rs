//! `dujiang up`

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::client::Client;
use crate::commands::status;
use crate::commands::version::VERSION;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Format, Paint};
use crate::platform::Running;
use crate::supervisor::report::{self, Message, Reporter};
use crate::supervisor::{self, Options, Outcome};

/// Start everything of a manifest and keep it running until Ctrl-C
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Waits until every unit serves, makes a first payment, says where everything is and shows a live status. Ctrl-C
stops everything in order and leaves the data; the next `up` resumes with it, also after a crash or a kill.

Examples:
  dujiang up -f examples/two-regions.yaml
  dujiang up -f examples/two-regions.yaml --detach && dujiang status
  dujiang up -f examples/two-regions.yaml --ha
  dujiang up                                       resumes with the manifest used last")]
pub struct Args {
    /// The manifest [default: the one used last in this folder]
    #[arg(short = 'f', long = "filename", value_name = "MANIFEST")]
    manifest: Option<PathBuf>,
    /// Run a control server and a member of etcd in every data center, so that the control plane survives the loss
    /// of any one of them; the same as `control: { store: etcd }` in the manifest. Later runs remember it
    #[arg(long)]
    ha: bool,
    /// Return once it serves; it runs on in the background until `dujiang down`
    #[arg(short, long)]
    detach: bool,
    /// How to print where everything is
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Be the background process of --detach: report through standard output
    #[arg(long, hide = true, conflicts_with = "detach")]
    supervise: bool,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let options = Options { manifest: args.manifest.clone(), data: context.data().to_owned(), ha: args.ha };
    if args.detach {
        return match detach(&options)? {
            Some(summary) => {
                summary.print(args.output)?;
                match summary.trouble {
                    Some(trouble) => Err(Failure::failed(trouble)),
                    None => Ok(()),
                }
            }
            None => runs_already(&options, context, args.output),
        };
    }
    if args.supervise {
        supervise(&options, context);
        return Ok(());
    }
    match context.block_on(supervisor::run(&options, &Reporter::person(args.output)))? {
        Outcome::Stopped if args.output == Format::Table => {
            output::line("everything is stopped; the data is kept")
        }
        Outcome::Stopped => Ok(()),
        Outcome::RunsAlready(_) => runs_already(&options, context, args.output),
    }
}

/// Says so and shows how it is.
fn runs_already(options: &Options, context: &Context, format: Format) -> Result<(), Failure> {
    let data = context.data().display();
    let Some(running) = Running::find(context.data())? else {
        return Err(Failure::failed(format!("a platform is just being started or stopped in {data}"))
            .hint("try again in a moment"));
    };
    let paint = Paint::stderr();
    eprintln!(
        "{} already runs from {data} (supervisor {})",
        paint.bold(&running.platform),
        running.supervisor
    );
    if running.version != VERSION {
        eprintln!(
            "it runs version {}, this is {VERSION}: `dujiang down` and `dujiang up` change over",
            running.version
        );
    }
    if let Some(wanted) = &options.manifest {
        let text = |path: &Path| std::fs::read(path).ok();
        if text(wanted) != text(&context.data().join("manifest.yaml")) {
            let wanted = wanted.display();
            eprintln!(
                "its manifest is not {wanted}: `dujiang down` and `dujiang up -f {wanted}` change over"
            );
        }
    }
    let client = Client::new(&running.control, &context.operator()?)?;
    let status = context.block_on(client.get("/v1/status"))?;
    match format {
        Format::Json => output::json(&status),
        Format::Table => output::bytes(status::render(&status, Paint::stdout()).as_bytes()),
    }
}

/// The background process. Whatever happens is reported through the pipe; nobody looks at the exit code.
fn supervise(options: &Options, context: &Context) {
    // Out of the terminal's reach: neither Ctrl-C nor a closed window shall end it. It fails only for the leader of
    // a process group, which a process that was just started by us is not.
    let _ = nix::unistd::setsid();
    match context.block_on(supervisor::run(options, &Reporter::Pipe)) {
        Ok(Outcome::Stopped) => {}
        Ok(Outcome::RunsAlready(pid)) => report::send(&Message::RunsAlready(pid)),
        Err(failure) => report::send(&Message::Failed(failure)),
    }
}

/// Starts the background process and waits until it serves.
fn detach(options: &Options) -> Result<Option<report::Summary>, Failure> {
    let program =
        std::env::current_exe().map_err(|e| Failure::because("cannot tell which program this is", &e))?;
    let mut command = Command::new(program);
    command.args(["up", "--supervise"]).arg("--data").arg(&options.data);
    if let Some(manifest) = &options.manifest {
        command.arg("-f").arg(manifest);
    }
    if options.ha {
        command.arg("--ha");
    }
    // It does not keep a folder busy that is not its own.
    let home = options.data.parent().filter(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let manifest_is_relative = options.manifest.as_ref().is_some_and(|m| m.is_relative());
    if !manifest_is_relative {
        command.current_dir(home);
    }
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = spawned.map_err(|e| Failure::because("cannot start the supervisor", &e))?;
    let Some(pipe) = child.stdout.take() else { return Err(Failure::failed("the supervisor has no output")) };
    report::follow(BufReader::new(pipe), &options.data.join("log/supervisor.log"))
}
