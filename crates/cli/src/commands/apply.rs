//! `dujiang apply -f FILE`

use std::collections::BTreeMap;
use std::io::Read as _;

use dujiang_types::Kind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::{Client, Precondition};
use crate::commands::get::kind;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Format};

/// A resource is a few kilobytes.
const BYTES_MAX: u64 = 16 << 20;

/// Create resources or change what is wanted of them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
FILE holds resources as `get -o json` prints them (one, or a list), in YAML or JSON: kind, name, labels, spec.
Status is passed over. A revision other than 0 must be the current one; without it the last writer wins.
With KIND and NAME the file may hold the spec alone.

Examples:
  dujiang get unit unit-1 -o json > unit.json; $EDITOR unit.json; dujiang apply -f unit.json
  echo '{region: chengdu, network: 127.0.13.0/24, gateway: {port: 8080, threads: 1}}' |
    dujiang apply datacenter chengdu-3 -f -")]
pub struct Args {
    /// units, datacenters or applications
    #[arg(value_parser = kind, requires = "name")]
    kind: Option<Kind>,
    /// Which one
    name: Option<String>,
    /// The file, or - for standard input
    #[arg(short, long, value_name = "FILE")]
    filename: String,
    /// How to print what was written
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What is read of a resource.
#[derive(Debug, Deserialize)]
struct Given {
    kind: String,
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    revision: u64,
    spec: Value,
}

/// What is written of a resource.
#[derive(Debug, Serialize)]
pub struct Intent<S> {
    /// Free key/value pairs.
    pub labels: BTreeMap<String, String>,
    /// What is wanted.
    pub spec: S,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let wanted = read(args)?;
    let client = Client::of(context)?;
    let written = context.block_on(async {
        let mut written = Vec::new();
        for (kind, given) in wanted {
            let precondition = (given.revision > 0).then_some(Precondition::Revision(given.revision));
            let intent = Intent { labels: given.labels, spec: given.spec };
            let resource = client.put(kind, &given.name, &intent, precondition).await?;
            if args.output == Format::Table {
                let revision = resource.get("revision").and_then(Value::as_u64).unwrap_or_default();
                output::line(format_args!("{} applied (revision {revision})", kind.key(&given.name)))?;
            }
            written.push(resource);
        }
        Ok(written)
    })?;
    if args.output == Format::Json { output::json(&written) } else { Ok(()) }
}

fn read(args: &Args) -> Result<Vec<(Kind, Given)>, Failure> {
    let text = read_text(&args.filename)?;
    let wrong = |why: String| Failure::usage(format!("{}: {why}", args.filename));
    let value: Value = serde_saphyr::from_str(&text).map_err(|e| wrong(e.without_snippet().to_string()))?;
    let values = match value {
        Value::Array(values) => values,
        value => vec![value],
    };
    let mut wanted = Vec::new();
    for value in values {
        let bare = value.get("spec").is_none();
        let given = match (args.kind, &args.name) {
            (Some(kind), Some(name)) if bare => Given {
                kind: kind.plural().to_owned(),
                name: name.clone(),
                labels: BTreeMap::new(),
                revision: 0,
                spec: value,
            },
            _ => Given::deserialize(value).map_err(|e| {
                wrong(e.to_string())
                    .hint("write kind, name and spec, as `dujiang get KIND NAME -o json` prints them")
            })?,
        };
        let known = kind(&given.kind).map_err(|e| wrong(format!("kind {:?}: {e}", given.kind)))?;
        let chosen =
            args.kind.is_none_or(|kind| kind == known) && args.name.as_ref().is_none_or(|n| *n == given.name);
        if !chosen {
            return Err(wrong(format!("it holds {}, not what was named", known.key(&given.name))));
        }
        wanted.push((known, given));
    }
    Ok(wanted)
}

fn read_text(file: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == "-" {
        std::io::stdin().take(BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|e| Failure::usage(format!("{file}: {e}")))?;
    Ok(text)
}
