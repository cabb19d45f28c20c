//! What was lost by a promotion without proof: the manifests of the old homes, the gateways' journals of what clients
//! were told, and the books as they are now, put together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use dujiang_types::UnitId;
use dujiang_types::loss::{
    ANSWERS_FILE, Answer, LOSSES_FILE, Losses, LostEntry, LostTransfer, OLDER_ANSWERS,
};
use serde::Serialize;

use crate::verify::source::primaries;
use crate::verify::{UnitSource, VerifyError};

/// Whether a client was told that its transfer is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Acknowledged {
    /// A gateway answered with success.
    Yes,
    /// Every answer was something else.
    No,
    /// No answer is known: there was none, it is older than the journals, or no client ordered the transfer.
    Unknown,
}

impl fmt::Display for Acknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name it has in JSON.
        self.serialize(f)
    }
}

/// What to do about a lost transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proposal {
    /// Post the entries again: its client was told that it is done.
    Repost,
    /// Nothing: its client has sent it again since, and it is in the books.
    Nothing,
    /// Nothing of ours: its client was never told that it is done, and may send it again.
    Client,
    /// Ask the client, then post the entries again or leave it.
    Ask,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name it has in JSON.
        self.serialize(f)
    }
}

/// A transfer that stands in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The manifest.
    pub manifest: PathBuf,
    /// The transfer.
    pub transfer: LostTransfer,
    /// Whether its client was told.
    pub acknowledged: Acknowledged,
    /// True if it is in the books again: by its id, or by its key.
    pub in_the_books: bool,
    /// What to do.
    pub proposal: Proposal,
    /// Entries to post, if it is to be posted again.
    pub correction: Vec<LostEntry>,
}

/// The manifests of a platform, each with its file; of one unit or of all.
pub fn manifests(data: &Path, unit: Option<&UnitId>) -> io::Result<Vec<(PathBuf, Losses)>> {
    let mut found = Vec::new();
    for dc in folders(&data.join("dc"))? {
        for folder in folders(&dc.join("units"))? {
            for kept in folders(&folder.join("kept"))? {
                let file = kept.join(LOSSES_FILE);
                if let Ok(text) = fs::read(&file) {
                    let losses: Losses = serde_json::from_slice(&text)?;
                    if unit.is_none_or(|unit| *unit == losses.unit) {
                        found.push((file, losses));
                    }
                }
            }
        }
    }
    Ok(found)
}

/// Folders in a folder, by name; none if there is no such folder, or one that is not finished.
fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.is_dir() && path.extension().is_none_or(|extension| extension != "new"));
    found.sort_unstable();
    Ok(found)
}

/// What clients were told, by unit and key.
#[derive(Debug, Default)]
pub struct Answers {
    told: BTreeMap<(UnitId, String), BTreeSet<u16>>,
}

impl Answers {
    /// Reads the journals of all gateways.
    pub fn read(data: &Path) -> io::Result<Self> {
        let mut answers = Self::default();
        for dc in folders(&data.join("dc"))? {
            let journal = dc.join("gateway").join(ANSWERS_FILE);
            answers.take(&journal.with_extension(OLDER_ANSWERS))?;
            answers.take(&journal)?;
        }
        Ok(answers)
    }

    fn take(&mut self, file: &Path) -> io::Result<()> {
        let opened = match fs::File::open(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for line in BufReader::new(opened).lines() {
            let line = line?;
            // The last line of a gateway that was killed may be half written.
            let Ok(answer) = serde_json::from_str::<Answer>(&line) else { continue };
            self.told.entry((answer.unit, answer.key)).or_default().insert(answer.status);
        }
        Ok(())
    }

    fn of(&self, unit: &UnitId, transfer: &LostTransfer) -> Acknowledged {
        let Some(key) = &transfer.key else { return Acknowledged::Unknown };
        match self.told.get(&(unit.clone(), key.clone())) {
            Some(told) if told.iter().any(|status| (200..300).contains(status)) => Acknowledged::Yes,
            Some(_) => Acknowledged::No,
            // What a journal dropped, or a gateway that was killed had not written, cannot be told from what never was.
            None => Acknowledged::Unknown,
        }
    }
}

/// Puts manifests, answers and books together. `books` holds the ids and keys of postings that are in the books.
pub fn compare(manifests: &[(PathBuf, Losses)], answers: &Answers, books: &BTreeSet<String>) -> Vec<Lost> {
    let lost = manifests.iter().flat_map(|(file, losses)| {
        losses.transfers.iter().map(move |transfer| {
            let acknowledged = answers.of(&losses.unit, transfer);
            let in_the_books =
                books.contains(&transfer.id) || transfer.key.as_ref().is_some_and(|key| books.contains(key));
            let proposal = match (in_the_books, acknowledged) {
                (true, _) => Proposal::Nothing,
                (false, Acknowledged::Yes) => Proposal::Repost,
                (false, Acknowledged::No) => Proposal::Client,
                (false, Acknowledged::Unknown) => Proposal::Ask,
            };
            let posts = matches!(proposal, Proposal::Repost | Proposal::Ask);
            let correction = if posts { transfer.entries.clone() } else { Vec::new() };
            let transfer = transfer.clone();
            Lost { manifest: file.clone(), transfer, acknowledged, in_the_books, proposal, correction }
        })
    });
    // A rewind that was begun twice has written two manifests.
    let mut seen = BTreeSet::new();
    lost.filter(|lost| seen.insert(lost.transfer.id.clone())).collect()
}

/// Ids and keys of everything that any manifest says was lost.
pub fn keys(manifests: &[(PathBuf, Losses)]) -> BTreeSet<String> {
    let transfers = manifests.iter().flat_map(|(_, losses)| &losses.transfers);
    transfers.flat_map(|transfer| transfer.key.iter().chain([&transfer.id]).cloned()).collect()
}

/// One line for each transfer, for a spreadsheet.
pub fn csv(lost: &[Lost]) -> String {
    let mut out = String::from(
        "transfer,key,kind,account,to,amount_minor,currency,at,acknowledged,in_the_books,proposal,correction\n",
    );
    for lost in lost {
        let transfer = &lost.transfer;
        let correction =
            lost.correction.iter().map(|entry| format!("{} {}", entry.account, entry.amount_minor));
        let cells = [
            transfer.id.clone(),
            transfer.key.clone().unwrap_or_default(),
            transfer.kind.clone(),
            transfer.account.clone(),
            transfer.to.clone().unwrap_or_default(),
            transfer.amount_minor.to_string(),
            transfer.currency.clone(),
            transfer.at.clone(),
            lost.acknowledged.to_string(),
            lost.in_the_books.to_string(),
            lost.proposal.to_string(),
            correction.collect::<Vec<_>>().join("; "),
        ];
        out.push_str(&cells.map(|cell| quote(&cell)).join(","));
        out.push('\n');
    }
    out
}

fn quote(cell: &str) -> String {
    // A spreadsheet must not take a text of a client's for a formula.
    let text = if cell.starts_with(['=', '+', '@']) { format!("'{cell}") } else { cell.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// Which of these ids and keys are in the books of the units now.
pub async fn in_the_books(
    sources: &[UnitSource],
    wanted: &BTreeSet<String>,
) -> Result<BTreeSet<String>, VerifyError> {
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let mut found = BTreeSet::new();
    for primary in primaries(sources).await?.0 {
        let query = "SELECT posting::text FROM postings WHERE posting::text = ANY ($1) \
                     UNION SELECT idempotency_key FROM postings WHERE idempotency_key = ANY ($1)";
        let rows =
            primary.client.query(query, &[&wanted]).await.map_err(|e| primary.failed("postings", e))?;
        found.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dujiang_types::{DcId, Epoch, Lsn, Position};

    fn transfer(id: &str, key: Option<&str>) -> LostTransfer {
        let entry = |account: &str, amount_minor| LostEntry {
            account: account.to_owned(),
            amount_minor,
            currency: "CNY".to_owned(),
        };
        LostTransfer {
            id: id.to_owned(),
            key: key.map(str::to_owned),
            kind: "transfer".to_owned(),
            account: "1".to_owned(),
            to: Some("2".to_owned()),
            amount_minor: 100,
            currency: "CNY".to_owned(),
            at: "2026-01-01".to_owned(),
            entries: vec![entry("1", -100), entry("2", 100)],
        }
    }

    #[test]
    fn what_is_lost_is_told_with_what_to_do_about_it() {
        let dir = tempfile::tempdir().unwrap();
        let unit = UnitId::new("unit-1").unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let keys = ["told", "failed", "silent", "again"];
        let losses = Losses {
            unit: unit.clone(),
            dc: DcId::new("a").unwrap(),
            epoch: Some(Epoch(1)),
            fork: Lsn(1),
            end: Position { timeline: 2, flushed: Lsn(9) },
            transactions: 4,
            transfers: keys.iter().map(|key| transfer(&format!("id-{key}"), Some(key))).collect(),
            incomplete: None,
        };
        write("dc/a/units/unit-1/kept/1/losses.json", &serde_json::to_string(&losses).unwrap());
        write("dc/a/units/unit-1/kept/2.new/losses.json", "half");
        let told = |key: &str, status: u16| {
            format!(
                "{{\"at\":\"t\",\"unit\":\"unit-1\",\"epoch\":1,\"key\":\"{key}\",\"status\":{status}}}\n"
            )
        };
        write("dc/a/gateway/answers.older.jsonl", &told("told", 504));
        write(
            "dc/b/gateway/answers.jsonl",
            &[told("told", 201), told("failed", 504), "{half".to_owned()].concat(),
        );
        let manifests = manifests(dir.path(), Some(&unit)).unwrap();
        assert!(super::keys(&manifests).contains("id-told") && super::keys(&manifests).len() == 8);
        let answers = Answers::read(dir.path()).unwrap();
        let lost = compare(&manifests, &answers, &BTreeSet::from(["again".to_owned()]));
        let told: Vec<_> =
            lost.iter().map(|lost| (lost.acknowledged, lost.proposal, lost.correction.len())).collect();
        assert_eq!(
            told,
            [
                (Acknowledged::Yes, Proposal::Repost, 2),
                (Acknowledged::No, Proposal::Client, 0),
                (Acknowledged::Unknown, Proposal::Ask, 2),
                (Acknowledged::Unknown, Proposal::Nothing, 0),
            ]
        );
        let csv = csv(&lost);
        let first = csv.lines().nth(1).unwrap();
        assert_eq!(first, "id-told,told,transfer,1,2,100,CNY,2026-01-01,yes,false,repost,1 -100; 2 100");
        assert_eq!(quote("=1,\"x\""), "\"'=1,\"\"x\"\"\"");
    }
}
