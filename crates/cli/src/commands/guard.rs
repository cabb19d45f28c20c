//! `dujiang guard` and `dujiang exec-postgres`: the two stages between an agent and PostgreSQL.
//!
//! There is a guard per database, and the kernel's parent-death signal needs the main thread of a process without
//! others: so these two are told apart before anything else, without command-line parser, runtime or log.

use std::error::Error;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use dujiang_agent::guard;

/// Runs one of the two if that is what the arguments say.
pub fn run(args: &[OsString]) -> Option<ExitCode> {
    let words: Vec<&str> = args.iter().take(2).filter_map(|arg| arg.to_str()).collect();
    let stage = *words.get(1)?;
    if !matches!(stage, "guard" | "exec-postgres") {
        return None;
    }
    let rest: Vec<&str> = args.iter().skip(2).filter_map(|arg| arg.to_str()).collect();
    let result = match (stage, rest.as_slice()) {
        ("guard", ["--spec", spec]) => guard::run(Path::new(spec)).map(drop),
        ("exec-postgres", ["--spec", spec, "--guard", pid]) => {
            let Ok(pid) = pid.parse() else { return Some(wrong()) };
            guard::exec(Path::new(spec), pid).map(|never| match never {})
        }
        _ => return Some(wrong()),
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let why = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            eprintln!("error: {error}{why}");
            ExitCode::FAILURE
        }
    })
}

fn wrong() -> ExitCode {
    eprintln!("error: this is started by the agent only");
    ExitCode::from(2)
}
