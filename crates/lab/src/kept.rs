//! Results kept as lines of JSON in a file, so that a run that is interrupted loses none of them and can be continued.
//!
//! Only results of the same commit on the same machine are put together: the others say nothing about this one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The commit of sources that nobody can name; no two of them are the same.
pub const UNKNOWN: &str = "unknown";

/// What was run, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The commit, and what was changed since.
    pub commit: String,
    /// What machine.
    pub machine: String,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line<T> {
    #[serde(flatten)]
    origin: Origin,
    #[serde(flatten)]
    result: T,
}

/// Results of one origin, in the order they came.
#[derive(Debug)]
pub struct Kept<T> {
    file: File,
    origin: Origin,
    results: Vec<T>,
}

impl<T: Serialize + DeserializeOwned> Kept<T> {
    /// Begins anew, or goes on with what the file says of this origin.
    pub fn open(path: &Path, origin: &Origin, go_on: bool) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let text = if go_on && path.exists() { fs::read_to_string(path)? } else { String::new() };
        // The last line of a run that was killed may be cut off: what it was about is run again.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Line<T>>(line).ok());
        let same = lines.filter(|line| line.origin == *origin && origin.commit != UNKNOWN);
        let results: Vec<T> = same.map(|line| line.result).collect();
        let beside = path.with_extension("new");
        let mut kept = Self { file: File::create(&beside)?, origin: origin.clone(), results: Vec::new() };
        for one in results {
            kept.add(one)?;
        }
        // Whoever is killed before this loses nothing.
        fs::rename(&beside, path)?;
        Ok(kept)
    }

    /// What it is about.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Results so far.
    pub fn results(&self) -> &[T] {
        &self.results
    }

    /// Writes down one more.
    pub fn add(&mut self, result: T) -> io::Result<()> {
        let line = Line { origin: self.origin.clone(), result };
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        self.file.write_all(&bytes)?;
        self.results.push(line.result);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Number {
        number: usize,
    }

    /// Opens it, adds the number of results there are, and tells all.
    fn numbers(path: &Path, commit: &str, machine: &str, go_on: bool) -> Vec<usize> {
        let origin = Origin { commit: commit.to_owned(), machine: machine.to_owned() };
        let mut kept = Kept::<Number>::open(path, &origin, go_on).unwrap();
        kept.add(Number { number: kept.results().len() }).unwrap();
        kept.results().iter().map(|one| one.number).collect()
    }

    #[test]
    fn results_of_the_same_commit_and_machine_are_put_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/numbers.jsonl");
        assert_eq!(numbers(&path, "a", "m", true), [0]);
        assert_eq!(numbers(&path, "a", "m", true), [0, 1]);
        // A run that was killed while it wrote.
        let mut text = fs::read_to_string(&path).unwrap();
        text.truncate(text.len() - 3);
        fs::write(&path, &text).unwrap();
        assert_eq!(numbers(&path, "a", "m", true), [0, 1]);
        assert_eq!(numbers(&path, "a", "another", true), [0]);
        assert_eq!(numbers(&path, "b", "another", true), [0]);
        assert_eq!(numbers(&path, "b", "another", false), [0]);
        for _ in 0..2 {
            assert_eq!(numbers(&path, UNKNOWN, "m", true), [0], "who knows whether it is the same");
        }
    }
}
