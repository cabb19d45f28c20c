//! Where the log of a process goes: stderr, which the process driver has pointed at a file, or a file of its own.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Variable that says what is logged.
const ENV_FILTER: &str = "DUJIANG_LOG";
/// Without it.
const FILTER: &str = "info";

/// Logs to stderr from now on.
pub fn to_stderr() {
    init(io::stderr, io::stderr().is_terminal());
}

/// Logs to a file from now on; panics of any thread too.
pub fn to_file(file: File) {
    init(Arc::new(file), false);
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a defect of ours")));
}

fn init<W>(writer: W, ansi: bool)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_from_env(ENV_FILTER).unwrap_or_else(|_| EnvFilter::new(FILTER));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(ansi);
    // It would tell of a log that cannot be written on stderr, which is that log: on a full disk that is a panic, and
    // the end of whatever task has something to say.
    let log = log.log_internal_errors(false);
    // Fails only if it was called before, and then there is a log already.
    let _ = log.try_init();
}
