//! The last routing table on disk, so that a gateway that starts while control is gone still serves.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use dujiang_routing::RoutingTable;

/// The table in the file. `None` if there is none, or none that can be read: then one from control is awaited.
pub(crate) fn read(path: &Path) -> Option<RoutingTable> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read the cached routing table");
            return None;
        }
    };
    serde_json::from_slice(&bytes)
        .inspect_err(
            |error| tracing::warn!(path = %path.display(), %error, "the cached routing table is not one"),
        )
        .ok()
}

/// Replaces the file; after a crash it holds the old table or the new one, never a part.
pub(crate) fn write(path: &Path, table: &RoutingTable) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let draft = path.with_extension("draft");
    let mut file = File::create(&draft)?;
    file.write_all(&serde_json::to_vec(table)?)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dujiang_types::Revision;

    #[test]
    fn what_is_written_is_read_and_garbage_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway/routing.json");
        assert_eq!(read(&path), None);
        let table = RoutingTable { version: Revision(7), ..RoutingTable::default() };
        write(&path, &table).unwrap();
        assert_eq!(read(&path), Some(table));
        fs::write(&path, "{").unwrap();
        assert_eq!(read(&path), None);
    }
}
