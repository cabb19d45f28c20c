//! The platform's key for evidence, in its folder: `evidence/key.pem`, and everybody's part of it, and of those before
//! it, in `evidence/public/`.

use std::fs;
use std::path::{Path, PathBuf};

use dujiang_agent::files;
use dujiang_evidence::{PublicKey, Signer, Suite};

use crate::failure::Failure;

fn key_path(data: &Path) -> PathBuf {
    data.join("evidence/key.pem")
}

fn public_dir(data: &Path) -> PathBuf {
    data.join("evidence/public")
}

/// Reads the key; makes one if there is none, or if there is one of another suite than is asked for. What the former
/// one signed stays verifiable by its public part, which is kept.
pub fn load_or_make(data: &Path, suite: Option<Suite>) -> Result<Signer, Failure> {
    let path = key_path(data);
    if path.exists() {
        let pem = fs::read_to_string(&path).map_err(|e| cannot("read", &path, &e))?;
        let signer = Signer::from_pem(&pem).map_err(|e| cannot("use", &path, &e))?;
        if suite.is_none_or(|suite| suite == signer.suite()) {
            return Ok(signer);
        }
    }
    let signer = Signer::generate(suite.unwrap_or_default());
    let public = signer.public();
    // Its name orders nothing; it only has to be its own.
    let name = public.fingerprint().replace(':', "-");
    let dir = public_dir(data);
    fs::create_dir_all(&dir).map_err(|e| cannot("create", &dir, &e))?;
    let pem = |pem: Result<String, _>| pem.map_err(|e| cannot("write", &path, &e));
    let public_path = dir.join(format!("{name}.pem"));
    let write = |path: &Path, text: &str, mode| {
        files::write_durably(path, text.as_bytes(), mode).map_err(|e| cannot("write", path, &e))
    };
    // The public part first: nothing is ever signed with a key that nobody can verify.
    write(&public_path, &pem(public.to_pem())?, files::MODE_PUBLIC)?;
    write(&path, &pem(signer.to_pem())?, files::MODE_SECRET)?;
    Ok(signer)
}

/// Every public key this platform has had.
pub fn public(data: &Path) -> Result<Vec<PublicKey>, Failure> {
    let dir = public_dir(data);
    let entries = fs::read_dir(&dir).map_err(|e| {
        cannot("read", &dir, &e)
            .hint("name the platform's public key with --key FILE, or its folder with --data DIR")
    })?;
    entries.flatten().map(|entry| read_public(&entry.path())).collect()
}

/// A public key in a file.
pub fn read_public(path: &Path) -> Result<PublicKey, Failure> {
    let pem = fs::read_to_string(path).map_err(|e| cannot("read", path, &e))?;
    PublicKey::from_pem(&pem).map_err(|e| cannot("use", path, &e))
}

fn cannot(what: &str, path: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::because(format!("cannot {what} {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_key_is_made_once_and_replaced_only_by_one_of_another_suite() {
        let dir = tempfile::tempdir().unwrap();
        let print = |suite| load_or_make(dir.path(), suite).unwrap().public().fingerprint();
        let first = print(None);
        assert_eq!(print(Some(Suite::International)), first);
        assert_eq!(fs::metadata(key_path(dir.path())).unwrap().mode() & 0o777, 0o600);
        let second = print(Some(Suite::National));
        assert!(second.starts_with("sm2:sm3:"), "{second}");
        assert_eq!(print(None), second);
        let mut known: Vec<String> = public(dir.path()).unwrap().iter().map(PublicKey::fingerprint).collect();
        known.sort();
        assert_eq!(known, [first, second]);
    }
}
