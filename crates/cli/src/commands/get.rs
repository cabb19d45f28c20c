//! `dujiang get KIND [NAME]`

use dujiang_types::Kind;
use serde::Deserialize;
use serde_json::Value;

use crate::client::{Client, path_of};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Format, Paint};
use crate::view;

/// Show resources: units, datacenters, applications, operations
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dujiang get units
  dujiang get unit unit-1 -o json
  dujiang get operations")]
pub struct Args {
    /// units, datacenters, applications or operations (or short: u, dc, app, op)
    #[arg(value_parser = kind)]
    kind: Kind,
    /// Only this one
    name: Option<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Args {
    /// What `dujiang operations` is short for.
    pub fn operations(name: Option<String>, output: Format) -> Self {
        Self { kind: Kind::Operation, name, output }
    }
}

/// Reads a kind as people write it.
pub fn kind(word: &str) -> Result<Kind, String> {
    Kind::from_word(&word.to_ascii_lowercase()).ok_or_else(|| {
        let known = Kind::ALL.iter().map(|kind| kind.plural()).collect::<Vec<_>>().join(", ");
        format!("the kinds are {known}")
    })
}

#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Value>,
    next: Option<String>,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let client = Client::of(context)?;
    let items = context.block_on(async {
        match &args.name {
            Some(name) => client.get(&path_of(args.kind, name)).await.map(|item| vec![item]),
            None => list(&client, args.kind).await,
        }
    })?;
    match (args.output, &args.name) {
        (Format::Json, Some(_)) => output::json(&items[0]),
        (Format::Json, None) => output::json(&items),
        (Format::Table, _) => {
            let table = view::table(args.kind, &items)?;
            if table.is_empty() {
                eprintln!("there are no {}", args.kind.plural());
                return Ok(());
            }
            output::bytes(table.render(Paint::stdout()).as_bytes())
        }
    }
}

/// All resources of a kind, page by page.
pub async fn list(client: &Client, kind: Kind) -> Result<Vec<Value>, Failure> {
    let mut items = Vec::new();
    let mut after = String::new();
    loop {
        let page: Page = client.get(&format!("/v1/{}{after}", kind.plural())).await?;
        items.extend(page.items);
        match page.next {
            Some(next) => after = format!("?after={next}"),
            None => return Ok(items),
        }
    }
}
