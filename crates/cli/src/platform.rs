//! What is known of a running platform from its folder: `run/platform.json`, written by the supervisor.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// A platform that was started from a folder and not yet stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Version of the binary that started it.
    pub version: String,
    /// That binary.
    pub program: PathBuf,
    /// Process id of the supervisor.
    pub supervisor: u32,
    /// The URLs of the control plane's servers.
    pub control: Vec<String>,
    /// The platform's name.
    pub platform: String,
}

impl Running {
    /// Where it is written.
    pub fn path(data: &Path) -> PathBuf {
        data.join("run/platform.json")
    }

    /// The platform that runs from that folder, or a failure that says there is none.
    pub fn read(data: &Path) -> Result<Self, Failure> {
        Self::find(data)?.ok_or_else(|| {
            Failure::unreachable(format!("no platform runs from {}", data.display()))
                .hint("start one with `dujiang up -f MANIFEST`, or name another folder with --data DIR")
        })
    }

    /// The platform that runs from that folder, if any.
    pub fn find(data: &Path) -> Result<Option<Self>, Failure> {
        let path = Self::path(data);
        let cannot =
            |e: &dyn std::error::Error| Failure::because(format!("cannot read {}", path.display()), e);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| cannot(&e)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                Err(cannot(&e).hint("run this as the user who runs the platform"))
            }
            Err(e) => Err(cannot(&e)),
        }
    }
}
