//! `dujiang token create|list|delete`: tokens by which machines join.

use std::path::PathBuf;
use std::time::Duration;

use dujiang_control::{JoinToken, TokenList, TokenReply, TokenRequest};
use dujiang_identity::{Bundle, KeyRequest, Token};
use dujiang_types::DcId;
use jiff::Timestamp;
use serde_json::json;

use crate::client::Client;
use crate::context::Context;
use crate::failure::Failure;
use crate::figures::parse_duration;
use crate::output::{self, Format, Paint};
use crate::table::{Cell, Table, Tone};
use crate::token;

/// One-time tokens by which a machine becomes a data center's agent
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dujiang token create --dc chengdu-1 --out chengdu-1.token
  dujiang token list
  dujiang token delete t-0190f3b2a1c4")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(Create),
    List(List),
    Delete(Delete),
}

/// Make a token for a data center's agent
///
/// A token is a secret: whoever has it first becomes the agent of that data center, for which the control servers then
/// certify everything that runs there. It works once, in its time, and only while the data center has no agent at work.
/// Its key is made here and goes nowhere else; the control servers certify it, and remember who asked. With it come the
/// platform's authority, so that the machine that joins knows whom it talks to.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dujiang token create --dc chengdu-1 --out chengdu-1.token
  dujiang token create --dc chengdu-1 --ttl 10m | ssh new-machine 'umask 077; cat > /root/chengdu-1.token'
  dujiang agent --dc chengdu-1 --control https://127.0.1.1:7000 --join /root/chengdu-1.token   there")]
struct Create {
    /// The data center
    #[arg(long)]
    dc: DcId,
    /// How long it can be used
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    ttl: Duration,
    /// Where to write it, for its owner alone; must not exist [default: print it]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Show the tokens of the last months: who made them, and what became of them
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  dujiang token list")]
struct List {
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Make a token useless, and forget it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  dujiang token delete t-0190f3b2a1c4")]
struct Delete {
    /// Its name
    id: String,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let client = Client::of(context)?;
    match &args.command {
        Command::Create(args) => create(args, context, &client),
        Command::List(args) => {
            let list: TokenList = context.block_on(client.get("/v1/tokens"))?;
            match args.output {
                Format::Json => output::json(&list),
                Format::Table if list.items.is_empty() => output::line("there are no tokens"),
                Format::Table => {
                    output::bytes(table(&list.items, Timestamp::now()).render(Paint::stdout()).as_bytes())
                }
            }
        }
        Command::Delete(args) => {
            context.block_on(client.delete_path(&format!("/v1/tokens/{}", args.id)))?;
            output::line(format_args!("{} is deleted", args.id))
        }
    }
}

fn create(args: &Create, context: &Context, client: &Client) -> Result<(), Failure> {
    if let Some(out) = args.out.as_ref().filter(|out| out.exists()) {
        return Err(
            Failure::usage(format!("{} exists already", out.display())).hint("name another file with --out")
        );
    }
    let made = |error: dujiang_identity::Error| Failure::because("the token cannot be made", &error);
    let key = KeyRequest::new().map_err(made)?;
    let ttl_s = u32::try_from(args.ttl.as_secs()).unwrap_or(u32::MAX);
    let asked = TokenRequest { dc: args.dc.clone(), ttl_s, request: key.pem().to_owned() };
    let reply: TokenReply = context.block_on(client.post("/v1/tokens", &asked))?;
    let bundle = Bundle::answered(&key, reply.certificate.certificate, reply.certificate.authority);
    let secret = bundle.and_then(Token::new).map_err(made)?;
    if let Some(out) = &args.out {
        token::write(&secret, out)?;
    }
    let JoinToken { id, dc, expires_at, .. } = &reply.token;
    match (args.output, &args.out) {
        (Format::Json, Some(out)) => output::json(&json!({"token": reply.token, "file": out})),
        (Format::Json, None) => output::json(&json!({"token": reply.token, "secret": secret.to_line()})),
        (Format::Table, Some(out)) => output::line(format_args!(
            "{id} makes one agent of {dc} until {expires_at:.0}: {}",
            out.display()
        )),
        // Nothing but the token, so that it can be piped on.
        (Format::Table, None) => {
            eprintln!("{id} makes one agent of {dc} until {expires_at:.0}");
            output::line(secret.to_line())
        }
    }
}

fn table(tokens: &[JoinToken], now: Timestamp) -> Table {
    let mut table = Table::new(&["TOKEN", "DATA CENTER", "MADE BY", "MADE AT", "USABLE UNTIL", "USED AT"]);
    for token in tokens {
        let used = match &token.used {
            Some(used) => Cell::new(format!("{:.0}", used.at), Tone::Good),
            None if token.expires_at <= now => Cell::new("never: expired", Tone::Plain),
            None => Cell::new("not yet", Tone::Busy),
        };
        table.row([
            token.id.as_str().into(),
            token.dc.as_str().into(),
            token.created_by.as_str().into(),
            format!("{:.0}", token.created_at).into(),
            format!("{:.0}", token.expires_at).into(),
            used,
        ]);
    }
    table
}
