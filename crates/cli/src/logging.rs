//! Where the log of a process goes: stderr, which the process driver has pointed at a file, or a file of its own.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::{panic, process};

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
    panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a defect of ours")));
}

/// Ends this process with the first of its tasks that panics. Nobody would miss the task, such as the one that keeps a
/// gateway running; the process is missed at once, and started again by whoever keeps it.
pub fn end_with_any_task() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        tell(panic);
        process::abort();
    }));
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;
    use std::{env, thread};

    use nix::sys::signal::Signal;

    /// Tells the test that it is the process which is to end.
    const ENV_INSIDE: &str = "DUJIANG_TEST_PANICS";

    #[test]
    fn a_panic_of_any_task_ends_the_process() {
        if env::var_os(ENV_INSIDE).is_some() {
            super::end_with_any_task();
            let joined = thread::spawn(|| panic!("a defect")).join();
            unreachable!("the process goes on: {joined:?}");
        }
        let name = "logging::tests::a_panic_of_any_task_ends_the_process";
        let mut inside = Command::new(env::current_exe().unwrap());
        let ended = inside.args([name, "--exact", "--nocapture"]).env(ENV_INSIDE, "1").output().unwrap();
        assert_eq!(ended.status.signal(), Some(Signal::SIGABRT as i32), "{ended:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains("a defect"), "{ended:?}");
    }
}
