//! The guard as a program of its own. The `dujiang` binary holds the same two stages; this one lets the crate's
//! tests run them as real processes.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use dujiang_agent::guard;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["guard", "--spec", spec] => guard::run(Path::new(spec)).map(drop),
        ["exec-postgres", "--spec", spec, "--guard", pid] => {
            let Ok(pid) = pid.parse() else { return ExitCode::from(2) };
            guard::exec(Path::new(spec), pid).map(|never| match never {})
        }
        _ => return ExitCode::from(2),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let reason = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            eprintln!("{error}{reason}");
            ExitCode::FAILURE
        }
    }
}
