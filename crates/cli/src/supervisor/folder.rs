//! The folder of a platform: made, recognised, locked, removed.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use dujiang_agent::files;
use dujiang_agent::postgres::{Programs, memory};
use dujiang_types::DcId;
use nix::unistd::{Uid, User};
use serde::{Deserialize, Serialize};

use crate::commands::version::VERSION;
use crate::failure::Failure;

/// Layout of the folder; raised when an older binary could no longer work with it.
const FORMAT: u32 = 2;
/// The first one whose members of etcd talk to each other over TLS. A member remembers the others by their URLs, so
/// those of an older folder would not find each other any more.
const FORMAT_SECURED_MEMBERS: u32 = 2;
/// Unprivileged user PostgreSQL runs as when we are root; made by the distribution's package.
const POSTGRES_USER: &str = "postgres";
/// The folder can be entered by the PostgreSQL user; what is secret in it has modes of its own.
const MODE_FOLDER: u32 = 0o755;
/// Bytes of randomness in the platform's secret.
const SECRET_BYTES: usize = 32;

/// `dujiang.json`: written first, so that a folder is known to be ours from its first moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    format: u32,
    version: String,
    /// User the platform runs as: PostgreSQL's files belong to it, or to its PostgreSQL user.
    uid: u32,
}

/// A folder that is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
}

/// Held while a supervisor lives; the kernel lets go of it even after a kill.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Folder {
    /// Makes the folder, or recognises it as ours.
    pub fn prepare(path: &Path) -> Result<Self, Failure> {
        let folder = Self { path: path.to_owned() };
        match fs::read_dir(path) {
            Ok(mut entries) => match folder.marker()? {
                Some(marker) => folder.check(&marker)?,
                None if entries.all(|e| e.is_ok_and(|e| is_half_made_marker(&e.file_name()))) => {
                    folder.mark()?;
                }
                None => return Err(folder.foreign()),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let made = DirBuilder::new().recursive(true).mode(MODE_FOLDER).create(path);
                made.map_err(|e| folder.cannot("create", path, &e))?;
                folder.mark()?;
            }
            Err(error) => return Err(folder.cannot("read", path, &error)),
        }
        let folder = folder.canonical()?;
        let path = folder.path();
        check_enterable(path)?;
        for dir in ["run/power-off", "log", "dc"] {
            let dir = path.join(dir);
            fs::create_dir_all(&dir).map_err(|e| folder.cannot("create", &dir, &e))?;
        }
        folder.make_secret()?;
        Ok(folder)
    }

    /// Recognises a folder as ours without changing it. `None` if there is nothing.
    pub fn find(path: &Path) -> Result<Option<Self>, Failure> {
        let folder = Self { path: path.to_owned() };
        if !path.exists() {
            return Ok(None);
        }
        match folder.marker()? {
            Some(marker) => {
                folder.check(&marker)?;
                folder.canonical().map(Some)
            }
            None => Err(folder.foreign()),
        }
    }

    /// Under the one name its processes are found by.
    fn canonical(self) -> Result<Self, Failure> {
        let path = fs::canonicalize(&self.path).map_err(|e| self.cannot("resolve", &self.path, &e))?;
        Ok(Self { path })
    }

    /// Its path, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The manifest in force.
    pub fn manifest(&self) -> PathBuf {
        self.path.join("manifest.yaml")
    }

    /// The supervisor's own log.
    pub fn supervisor_log(&self) -> PathBuf {
        self.path.join("log/supervisor.log")
    }

    /// While this file exists, its data center is switched off: nothing of it runs.
    pub fn power_off(&self, dc: &DcId) -> PathBuf {
        self.path.join("run/power-off").join(dc.as_str())
    }

    /// True if the records are in a file here.
    pub fn has_redb(&self) -> bool {
        self.path.join("control/store.redb").exists()
    }

    /// True if the records are in members of etcd here.
    pub fn has_etcd(&self) -> bool {
        !self.members().is_empty()
    }

    fn control_sites_path(&self) -> PathBuf {
        self.path.join("control-sites.json")
    }

    /// The sites whose members the control store consists of, if it was re-formed from fewer than all.
    pub fn control_sites(&self) -> Result<Option<BTreeSet<DcId>>, Failure> {
        let path = self.control_sites_path();
        files::read_json(&path).map_err(|e| self.cannot("read", &path, &e))
    }

    /// Remembers that the store consists of the members of these sites only; `None`: of all again.
    pub fn set_control_sites(&self, sites: Option<&BTreeSet<DcId>>) -> Result<(), Failure> {
        let path = self.control_sites_path();
        let set = match sites {
            Some(sites) => files::write_json(&path, sites),
            None => files::remove_file(&path),
        };
        set.map_err(|e| self.cannot("write", &path, &e))
    }

    /// Folders of members of etcd, of this platform's manifest or of an earlier one.
    pub fn members(&self) -> Vec<PathBuf> {
        let dcs = fs::read_dir(self.path.join("dc"));
        let members = dcs.into_iter().flatten().flatten().map(|dc| dc.path().join("etcd"));
        members.filter(|dir| dir.exists()).collect()
    }

    /// Takes the lock a supervisor holds as long as it lives. `Err(pid)` if another one holds it.
    pub fn lock(&self) -> Result<Result<Lock, u32>, Failure> {
        let path = self.path.join("run/supervisor.lock");
        let cannot = |e: &io::Error| self.cannot("lock", &path, e);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(|e| cannot(&e))?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)
                    .and_then(|()| write!(file, "{}", std::process::id()))
                    .map_err(|e| cannot(&e))?;
                Ok(Ok(Lock { _file: file }))
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                file.read_to_string(&mut text).map_err(|e| cannot(&e))?;
                // Empty for the moment between the lock and the write.
                Ok(Err(text.trim().parse().unwrap_or_default()))
            }
            Err(TryLockError::Error(error)) => Err(cannot(&error)),
        }
    }

    /// Gives back shared memory that databases were killed with; without PostgreSQL here there is none.
    fn release_memory(&self) {
        let Ok(programs) = Programs::find() else { return };
        let dcs = fs::read_dir(self.path.join("dc")).into_iter().flatten().flatten();
        let units = dcs.filter_map(|dc| fs::read_dir(dc.path().join("units")).ok()).flatten().flatten();
        for unit in units {
            memory::release_all(&programs, &unit.path());
        }
    }

    /// Removes it with everything in it.
    pub fn purge(&self) -> Result<(), Failure> {
        self.release_memory();
        // The marker last, so that a half-removed folder is still known to be ours.
        for entry in fs::read_dir(&self.path).map_err(|e| self.cannot("read", &self.path, &e))? {
            let path = entry.map_err(|e| self.cannot("read", &self.path, &e))?.path();
            if path == self.marker_path() {
                continue;
            }
            let removed = if path.is_dir() && !path.is_symlink() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(|e| self.cannot("remove", &path, &e))?;
        }
        files::remove_file(&self.marker_path())
            .map_err(|e| self.cannot("remove", &self.marker_path(), &e))?;
        // It may be a mount point, or someone's current directory: empty is enough.
        let _ = fs::remove_dir(&self.path);
        Ok(())
    }

    /// Refuses a folder whose members of etcd this version cannot start; from now on the folder is of this version's
    /// format.
    pub fn take_over(&self) -> Result<(), Failure> {
        let marker = self.marker()?.ok_or_else(|| self.foreign())?;
        if marker.format < FORMAT_SECURED_MEMBERS && self.has_etcd() {
            let (path, version) = (self.path.display(), &marker.version);
            return Err(Failure::failed(format!(
                "the members of etcd in {path} were made by dujiang {version}, which let them talk in plain text"
            ))
            .hint(
                "with that version: `dujiang up`, `dujiang store backup FILE`, `dujiang down`; then with this one: \
                 `dujiang store restore FILE`, `dujiang up`",
            ));
        }
        if marker.format < FORMAT { self.is_of_this_format() } else { Ok(()) }
    }

    /// Says so in the folder: from now on an older version refuses it.
    pub fn is_of_this_format(&self) -> Result<(), Failure> {
        self.mark()
    }

    fn marker_path(&self) -> PathBuf {
        self.path.join("dujiang.json")
    }

    fn marker(&self) -> Result<Option<Marker>, Failure> {
        let path = self.marker_path();
        files::read_json(&path).map_err(|e| self.cannot("read", &path, &e))
    }

    fn mark(&self) -> Result<(), Failure> {
        let marker = Marker { format: FORMAT, version: VERSION.to_owned(), uid: Uid::effective().as_raw() };
        let path = self.marker_path();
        fs::set_permissions(&self.path, Permissions::from_mode(MODE_FOLDER))
            .and_then(|()| files::write_json(&path, &marker))
            .map_err(|e| self.cannot("write", &path, &e))
    }

    fn check(&self, marker: &Marker) -> Result<(), Failure> {
        let path = self.path.display();
        if marker.format > FORMAT {
            let Marker { version, .. } = marker;
            return Err(Failure::failed(format!("{path} was made by dujiang {version}; this is {VERSION}"))
                .hint(format!("use dujiang {version} or later, or another folder with --data DIR")));
        }
        if marker.uid != Uid::effective().as_raw() {
            let name = User::from_uid(Uid::from_raw(marker.uid)).ok().flatten();
            let owner = name.map_or_else(|| format!("uid {}", marker.uid), |user| user.name);
            return Err(Failure::failed(format!("the platform in {path} belongs to {owner}"))
                .hint(format!("run this as {owner}, or name another folder with --data DIR")));
        }
        Ok(())
    }

    /// The platform's secret, once: database passwords are derived from it.
    fn make_secret(&self) -> Result<(), Failure> {
        let path = self.path.join("secret");
        if path.exists() {
            return Ok(());
        }
        let databases = fs::read_dir(self.path.join("dc"))
            .is_ok_and(|mut dcs| dcs.any(|dc| dc.is_ok_and(|dc| dc.path().join("units").exists())));
        if databases {
            return Err(Failure::failed(format!(
                "{} is missing, and there are databases whose passwords come from it",
                path.display()
            ))
            .hint("restore it from a backup; or, if the data may go, `dujiang down --purge`"));
        }
        let mut bytes = [0; SECRET_BYTES];
        let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
        random.map_err(|e| Failure::because("cannot read /dev/urandom", &e))?;
        let hex = bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        files::write_durably(&path, hex.as_bytes(), files::MODE_SECRET)
            .map_err(|e| self.cannot("write", &path, &e))
    }

    fn foreign(&self) -> Failure {
        Failure::failed(format!("{} is not empty and not the folder of a platform", self.path.display()))
            .hint("name another folder with --data DIR; one that does not exist yet is best")
    }

    fn cannot(&self, what: &str, path: &Path, error: &io::Error) -> Failure {
        let failure = Failure::because(format!("cannot {what} {}", path.display()), error);
        match error.kind() {
            ErrorKind::PermissionDenied => failure.hint(format!(
                "run this as the user who owns {}, or name another folder with --data DIR",
                self.path.display()
            )),
            ErrorKind::StorageFull => failure.hint("the disk is full: make room and try again"),
            ErrorKind::ReadOnlyFilesystem => failure.hint("name a folder one can write to with --data DIR"),
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                failure.hint("name a folder with --data DIR")
            }
            _ => failure,
        }
    }
}

/// What a kill leaves of the very first write.
fn is_half_made_marker(name: &std::ffi::OsStr) -> bool {
    name == "dujiang.json.new" || name == "lost+found"
}

/// As root, PostgreSQL runs as its own user, who has to get to its data: every folder above must let it pass.
fn check_enterable(path: &Path) -> Result<(), Failure> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let user = User::from_name(POSTGRES_USER).ok().flatten().ok_or_else(|| {
        Failure::failed(format!(
            "there is no user `{POSTGRES_USER}`, whom PostgreSQL runs as when we are root"
        ))
        .hint(
            "install PostgreSQL from the distribution: scripts/install-deps, or `apt-get install postgresql`",
        )
    })?;
    match path.ancestors().find(|dir| !may_enter(&user, dir)) {
        None => Ok(()),
        Some(dir) => Err(Failure::failed(format!("the user `{POSTGRES_USER}` may not enter {}", dir.display())).hint(
            format!(
                "PostgreSQL runs as that user: choose another folder with --data DIR (/var/lib/dujiang is the default), or `chmod o+x {}`",
                dir.display()
            ),
        )),
    }
}

fn may_enter(user: &User, dir: &Path) -> bool {
    // A folder that cannot be looked at will be complained about by whoever uses it.
    fs::metadata(dir).map_or(true, |meta| {
        let bit = if meta.uid() == user.uid.as_raw() {
            0o100
        } else if meta.gid() == user.gid.as_raw() {
            0o010
        } else {
            0o001
        };
        meta.mode() & bit != 0
    })
}

/// Opens a log for appending, readable by everybody: it holds no secrets.
pub fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o644).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Below a folder everybody may enter, whoever runs the tests.
    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().join("platform");
        (dir, path)
    }

    #[test]
    fn a_folder_is_made_recognised_and_locked_by_one() {
        let (_dir, path) = scratch();
        let folder = Folder::prepare(&path).unwrap();
        let secret = fs::read_to_string(path.join("secret")).unwrap();
        assert_eq!(secret.len(), 2 * SECRET_BYTES);
        assert_eq!(fs::metadata(path.join("secret")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(Folder::prepare(&path).unwrap(), folder);
        assert_eq!(fs::read_to_string(path.join("secret")).unwrap(), secret, "a secret is made once");
        let held = folder.lock().unwrap().unwrap();
        assert_eq!(folder.lock().unwrap().unwrap_err(), std::process::id());
        drop(held);
        assert!(folder.lock().unwrap().is_ok(), "a lock ends with its holder");
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let (_dir, path) = scratch();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("letter.txt"), "dear").unwrap();
        assert!(Folder::prepare(&path).unwrap_err().message().contains("not the folder of a platform"));
        assert!(Folder::find(&path).is_err());
        assert!(Folder::find(&path.join("nothing")).unwrap().is_none());
        assert!(path.join("letter.txt").exists());
    }

    #[test]
    fn what_a_kill_left_of_the_first_moment_is_finished() {
        let (_dir, path) = scratch();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("dujiang.json.new"), "{").unwrap();
        Folder::prepare(&path).unwrap();
        // Killed after the marker, before anything else.
        fs::remove_dir_all(path.join("run")).unwrap();
        fs::remove_file(path.join("secret")).unwrap();
        Folder::prepare(&path).unwrap();
        assert!(path.join("secret").exists());
    }

    #[test]
    fn a_lost_secret_is_not_replaced_under_living_databases() {
        let (_dir, path) = scratch();
        Folder::prepare(&path).unwrap();
        fs::create_dir_all(path.join("dc/chengdu-1/units/unit-1")).unwrap();
        fs::remove_file(path.join("secret")).unwrap();
        assert!(Folder::prepare(&path).unwrap_err().message().contains("secret is missing"));
    }

    #[test]
    fn a_newer_or_foreign_platform_is_refused() {
        let (_dir, path) = scratch();
        let folder = Folder::prepare(&path).unwrap();
        let newer =
            Marker { format: FORMAT + 1, version: "9.0.0".to_owned(), uid: Uid::effective().as_raw() };
        files::write_json(&folder.marker_path(), &newer).unwrap();
        assert!(Folder::prepare(&path).unwrap_err().message().contains("9.0.0"));
        let other = Marker { format: FORMAT, version: VERSION.to_owned(), uid: 4_242_424 };
        files::write_json(&folder.marker_path(), &other).unwrap();
        assert!(Folder::find(&path).unwrap_err().message().contains("uid 4242424"));
    }

    #[test]
    fn an_older_folder_is_taken_over_unless_its_members_talk_in_plain_text() {
        let (_dir, path) = scratch();
        let folder = Folder::prepare(&path).unwrap();
        let older = Marker { format: 1, version: "0.0.9".to_owned(), uid: Uid::effective().as_raw() };
        files::write_json(&folder.marker_path(), &older).unwrap();
        folder.take_over().unwrap();
        assert_eq!(folder.marker().unwrap().unwrap().format, FORMAT);
        files::write_json(&folder.marker_path(), &older).unwrap();
        fs::create_dir_all(path.join("dc/chengdu-1/etcd")).unwrap();
        let refused = folder.take_over().unwrap_err();
        assert!(refused.message().contains("0.0.9") && refused.message().contains("plain text"));
        // A restore has made them anew.
        folder.is_of_this_format().unwrap();
        folder.take_over().unwrap();
    }

    #[test]
    fn a_purge_leaves_nothing() {
        let (_dir, path) = scratch();
        Folder::prepare(&path).unwrap().purge().unwrap();
        assert!(!path.exists());
    }
}
