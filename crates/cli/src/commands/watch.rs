//! `dujiang watch KIND [NAME]`

use std::time::Duration;

use dujiang_types::Kind;
use serde::Serialize;
use serde_json::Value;

use crate::client::{Client, Event};
use crate::commands::get::kind;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Format, Paint};
use crate::view;

/// Between two tries to reach the control plane again: it is back within a second after a crash.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Show changes of resources as they happen, until Ctrl-C
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dujiang watch units
  dujiang watch operations -o json | jq .")]
pub struct Args {
    /// units, datacenters, applications or operations
    #[arg(value_parser = kind)]
    kind: Kind,
    /// Only this one
    name: Option<String>,
    /// How to print: a line per change
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// A change, as `-o json` prints it.
#[derive(Debug, Serialize)]
struct Change<'a> {
    event: &'a str,
    resource: &'a Value,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let client = Client::of(context)?;
    context.block_on(async {
        let path = format!("/v1/watch?kinds={}", args.kind.plural());
        // The first connection decides whether there is anything to watch; later ones are only tried again.
        let mut watch = client.watch(&path).await?;
        loop {
            while let Some(event) = watch.next().await {
                show(args, &event)?;
            }
            watch = loop {
                tokio::time::sleep(RETRY_PAUSE).await;
                match client.watch(&path).await {
                    Ok(watch) => break watch,
                    Err(failure) => eprintln!("{}; trying again", failure.message()),
                }
            };
        }
    })
}

fn show(args: &Args, event: &Event) -> Result<(), Failure> {
    let data: Value =
        serde_json::from_str(&event.data).map_err(|e| Failure::because("an event cannot be read", &e))?;
    match event.name.as_str() {
        "snapshot" => {
            let items = data.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            items.iter().try_for_each(|item| show_one(args, "is", item))
        }
        "put" => show_one(args, "put", &data),
        "delete" => show_one(args, "delete", &data),
        _ => Ok(()),
    }
}

fn show_one(args: &Args, event: &str, resource: &Value) -> Result<(), Failure> {
    if args.name.as_deref().is_some_and(|name| resource.get("name").and_then(Value::as_str) != Some(name)) {
        return Ok(());
    }
    match args.output {
        Format::Json => output::json_line(&Change { event, resource }),
        // A deletion carries no more than a name.
        Format::Table if event == "delete" => output::line(format_args!(
            "delete  {}",
            resource.get("name").and_then(Value::as_str).unwrap_or("?")
        )),
        Format::Table => {
            let table = view::table(args.kind, std::slice::from_ref(resource))?;
            let text = table.render(Paint::stdout());
            let row = text.lines().nth(1).unwrap_or_default();
            output::line(format_args!("{event:6}  {row}"))
        }
    }
}
