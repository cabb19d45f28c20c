//! Log files of processes, bounded in size.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// A log is moved aside when it is larger. Two of them per process stay well below a full disk.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// Opens for appending: several processes may write, and a truncated file is continued at its start.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Moves a log that has grown too large aside (`.1`, replacing an older one). The writer keeps its descriptor, so
/// the content is copied and the file truncated; lines written in between are lost, which a log can bear.
pub fn rotate(path: &Path) -> io::Result<()> {
    rotate_beyond(path, LOG_BYTES_MAX)
}

fn rotate_beyond(path: &Path, bytes_max: u64) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() > bytes_max => {
            let mut aside = path.as_os_str().to_owned();
            aside.push(".1");
            fs::copy(path, PathBuf::from(aside))?;
            OpenOptions::new().write(true).open(path)?.set_len(0)
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_large_log_is_moved_aside_under_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut writer = open(&path).unwrap();
        writer.write_all(b"first\n").unwrap();
        rotate_beyond(&path, 100).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first\n");
        rotate_beyond(&path, 3).unwrap();
        writer.write_all(b"second\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second\n");
        assert_eq!(fs::read(dir.path().join("a.log.1")).unwrap(), b"first\n");
    }
}
