//! `dujiang logs`

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dujiang_types::DcId;
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Format, Paint};

/// Between two looks for new lines.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Read of a log at once: bounds memory, and how far back `--lines` can reach.
const CHUNK_BYTES: u64 = 1 << 20;

/// Show the logs of the platform's processes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
NAME is a process: supervisor, control, agent, gateway, an instance such as bank-0, or a unit's database such as
unit-1; or a part of such a name. Without it all are shown, each line after the name of its log.

Examples:
  dujiang logs -f
  dujiang logs gateway --dc chengdu-1 -n 100
  dujiang logs unit-1
  dujiang logs -f -o json | jq -r 'select(.dc == \"chengdu-1\").line'")]
pub struct Args {
    /// Which process
    name: Option<String>,
    /// Go on with new lines as they come, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only of this data center
    #[arg(long)]
    dc: Option<DcId>,
    /// Begin with the last N lines of each log
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    lines: usize,
    /// How to print: a line per line of a log
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// A log being read.
#[derive(Debug)]
struct Log {
    /// Absent for the platform's own processes, which belong to no data center.
    dc: Option<String>,
    process: String,
    path: PathBuf,
    /// Up to where it was shown.
    offset: u64,
}

/// A line of a log, as `-o json` prints it.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    dc: Option<&'a str>,
    process: &'a str,
    line: &'a str,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let mut logs = find(context.data(), args.name.as_deref(), args.dc.as_ref());
    if logs.is_empty() {
        let dc = args.dc.as_ref().map(|dc| format!(" of {dc}")).unwrap_or_default();
        let what = args.name.as_ref().map_or_else(|| "log".to_owned(), |name| format!("log called {name}"));
        return Err(Failure::failed(format!("there is no {what}{dc} in {}", context.data().display()))
            .hint("`dujiang logs` without a name shows what there is; --data DIR names another platform"));
    }
    for log in &mut logs {
        let text = log.tail(args.lines)?;
        show(log, &text, args.output)?;
    }
    if !args.follow {
        return Ok(());
    }
    loop {
        std::thread::sleep(LOOK_EVERY);
        // Processes that are started later have logs too.
        for found in find(context.data(), args.name.as_deref(), args.dc.as_ref()) {
            if logs.iter().all(|log| log.path != found.path) {
                logs.push(found);
            }
        }
        for log in &mut logs {
            let text = log.news()?;
            show(log, &text, args.output)?;
        }
    }
}

fn show(log: &Log, text: &str, format: Format) -> Result<(), Failure> {
    let label = Paint::stdout().cyan(log.label());
    text.lines().try_for_each(|line| match format {
        Format::Json => output::json_line(&Entry { dc: log.dc.as_deref(), process: &log.process, line }),
        Format::Table => output::line(format_args!("{label} | {line}")),
    })
}

/// Logs by name and data center, the platform's own first.
fn find(data: &Path, name: Option<&str>, dc: Option<&DcId>) -> Vec<Log> {
    let mut logs = Vec::new();
    if dc.is_none() {
        logs.extend(logs_in(&data.join("log"), None));
    }
    for folder in entries(&data.join("dc")) {
        let of = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if dc.is_none_or(|dc| dc.as_str() == of) {
            logs.extend(logs_in(&folder.join("log"), Some(&of)));
        }
    }
    logs.retain(|log| name.is_none_or(|name| log.label().contains(name)));
    logs
}

fn logs_in(folder: &Path, dc: Option<&str>) -> Vec<Log> {
    let logs = entries(folder).into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "log"));
    let named = logs.filter_map(|path| {
        let process = path.file_stem()?.to_string_lossy().into_owned();
        Some(Log { dc: dc.map(str::to_owned), process, path, offset: 0 })
    });
    named.collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

impl Log {
    /// What people know it by: `control`, `chengdu-1/gateway`.
    fn label(&self) -> String {
        self.dc.as_ref().map_or_else(|| self.process.clone(), |dc| format!("{dc}/{}", self.process))
    }

    /// The last lines.
    fn tail(&mut self, lines: usize) -> Result<String, Failure> {
        let size = self.size();
        self.offset = size.saturating_sub(CHUNK_BYTES);
        let from_middle = self.offset > 0;
        let text = self.news()?;
        let mut all: Vec<&str> = text.split_inclusive('\n').collect();
        if from_middle && !all.is_empty() {
            all.remove(0); // Its beginning is not there.
        }
        Ok(all[all.len().saturating_sub(lines)..].concat())
    }

    /// Whole lines since the last look.
    fn news(&mut self) -> Result<String, Failure> {
        if self.size() < self.offset {
            self.offset = 0; // It was moved aside and begins anew.
        }
        let cannot = |e: &std::io::Error| Failure::because(format!("cannot read {}", self.path.display()), e);
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
            Err(error) => return Err(cannot(&error)),
        };
        let mut bytes = Vec::new();
        let read = file
            .seek(SeekFrom::Start(self.offset))
            .and_then(|_| file.take(CHUNK_BYTES).read_to_end(&mut bytes));
        read.map_err(|e| cannot(&e))?;
        // A line that is being written is left for the next look.
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.offset += u64::try_from(end).unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    fn size(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |meta| meta.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_log_is_shown_from_its_end_and_followed_line_by_line() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("log")).unwrap();
        std::fs::create_dir_all(dir.path().join("dc/chengdu-1/log")).unwrap();
        std::fs::write(dir.path().join("log/control.log"), "a\nb\nc\nhalf").unwrap();
        std::fs::write(dir.path().join("dc/chengdu-1/log/gateway.log"), "g\n").unwrap();
        let labels = |logs: Vec<Log>| logs.into_iter().map(|log| log.label()).collect::<Vec<_>>();
        assert_eq!(labels(find(dir.path(), None, None)), ["control", "chengdu-1/gateway"]);
        assert_eq!(labels(find(dir.path(), Some("gate"), None)), ["chengdu-1/gateway"]);
        assert!(find(dir.path(), Some("control"), DcId::new("chengdu-1").ok().as_ref()).is_empty());
        let mut log = find(dir.path(), Some("control"), None).remove(0);
        assert_eq!(log.tail(2).unwrap(), "b\nc\n");
        let mut file = File::options().append(true).open(&log.path).unwrap();
        file.write_all(b" done\nnext").unwrap();
        assert_eq!(log.news().unwrap(), "half done\n");
        std::fs::write(&log.path, "new\n").unwrap();
        assert_eq!(log.news().unwrap(), "new\n");
    }
}
