//! Small files that must be whole and durable, or not there.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest file read as JSON: that of all records known in a data center, a few kilobytes for each of its units; more is not
/// ours.
const JSON_BYTES_MAX: u64 = 16 << 20;

/// Readable by everybody: holds no secret.
pub const MODE_PUBLIC: u32 = 0o644;
/// Readable by its owner only.
pub const MODE_SECRET: u32 = 0o600;

/// Replaces a file by content that is on disk before it is seen: written beside it, synced, renamed, and the
/// directory synced.
pub fn write_durably(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    write_beside(path, content, mode)?.sync_all()?;
    fs::rename(beside(path), path)?;
    sync_dir(parent(path))
}

/// Replaces a file at once, so that no reader sees half of it; a power cut may lose it. For what is made anew
/// whenever it is needed.
pub fn write_whole(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    write_beside(path, content, mode)?;
    fs::rename(beside(path), path)
}

fn write_beside(path: &Path, content: &[u8], mode: u32) -> io::Result<File> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(beside(path))?;
    // The file may be left over from a crash with another mode.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    Ok(file)
}

/// Like [`write_durably`], as JSON.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    write_durably(path, &serde_json::to_vec_pretty(value)?, MODE_PUBLIC)
}

/// Reads JSON; `None` if the file does not exist.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let bytes = match fs::metadata(path) {
        Ok(meta) if meta.len() > JSON_BYTES_MAX => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "larger than any record of ours"));
        }
        Ok(_) => fs::read(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from)
}

/// Removes a file; it is fine if there is none.
pub fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a directory and all in it; it is fine if there is none.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Copies a directory with all files and directories in it, and no links. The copy is its owner's alone, and each file
/// is on disk when this returns.
pub fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    make_private_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, made) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_dir(&entry.path(), &made)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &made)?;
            File::open(&made)?.sync_all()?;
        }
    }
    sync_dir(to)
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The directory a file lies in.
pub fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

/// Makes a directory only its owner may enter.
pub fn make_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
