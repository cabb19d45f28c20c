//! Finds the first place where a journal is not what was written.

use super::chain::{Chain, Checkpoint, JournalId, Record};

/// A journal that is what was written, as far as it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intact {
    /// Its last record.
    pub head: Checkpoint,
    /// How many records come after the last checkpoint, and so rest on nothing outside of the journal.
    pub unproven: u64,
}

/// The first thing that is wrong. `place` is the number that the record there should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Tampering {
    /// A record's contents or digest were changed.
    #[error("record {place} was changed")]
    Changed {
        /// Which.
        place: u64,
    },
    /// A record is not there.
    #[error("record {place} was removed")]
    Removed {
        /// Which.
        place: u64,
    },
    /// A record was put in.
    #[error("a record was inserted in the place of record {place}")]
    Inserted {
        /// Where.
        place: u64,
    },
    /// Records changed places.
    #[error("record {found} was put in the place of record {place}")]
    Reordered {
        /// Where.
        place: u64,
        /// Which record is there.
        found: u64,
    },
    /// The chain is whole, and another one than it was: all of it was computed anew from some record on.
    #[error(
        "records were computed anew after record {after} and up to record {place}, where the checkpoint differs"
    )]
    Rewritten {
        /// The last record that a checkpoint proves.
        after: u64,
        /// The checkpoint that differs.
        place: u64,
    },
    /// The journal ends before a checkpoint.
    #[error("the journal ends with record {last}; record {checkpoint} was there")]
    Truncated {
        /// Its last record.
        last: u64,
        /// The highest checkpoint.
        checkpoint: u64,
    },
}

/// Verifies the records that follow `from` (`None`: from the first one on), in the order they are stored, against
/// checkpoints in any order. Long journals are verified piece by piece, each from the head of the one before.
pub fn verify(
    journal: &JournalId,
    from: Option<Checkpoint>,
    records: &[Record],
    checkpoints: &[Checkpoint],
) -> Result<Intact, Tampering> {
    let mut head = from.unwrap_or_else(|| Chain::begin(journal.clone()).head());
    let mut proven = head.number;
    let mut checkpoints = checkpoints.to_vec();
    checkpoints.sort_unstable_by_key(|checkpoint| checkpoint.number);
    let first = checkpoints.partition_point(|checkpoint| checkpoint.number < head.number);
    let mut ahead = checkpoints[first..].iter().peekable();
    // The place it goes on from is one that a checkpoint may know better.
    while let Some(known) = ahead.next_if(|checkpoint| checkpoint.number == head.number) {
        if known.digest != head.digest {
            return Err(Tampering::Rewritten { after: 0, place: head.number });
        }
    }
    for (at, record) in records.iter().enumerate() {
        // The number after the last one there is belongs to no record.
        let Some(place) = head.number.checked_add(1) else {
            return Err(Tampering::Inserted { place: head.number });
        };
        check_place(journal, head, &records[at..], record, place)?;
        head = Checkpoint { number: record.number, digest: record.digest };
        while let Some(known) = ahead.next_if(|checkpoint| checkpoint.number == place) {
            if known.digest != record.digest {
                return Err(Tampering::Rewritten { after: proven, place });
            }
            proven = place;
        }
    }
    let highest = checkpoints.last().map_or(0, |checkpoint| checkpoint.number);
    if highest > head.number {
        return Err(Tampering::Truncated { last: head.number, checkpoint: highest });
    }
    Ok(Intact { head, unproven: head.number - proven })
}

/// Judges the first of `rest`, which should have the number `place` and follow `head`.
fn check_place(
    journal: &JournalId,
    head: Checkpoint,
    rest: &[Record],
    record: &Record,
    place: u64,
) -> Result<(), Tampering> {
    let fits = |record: &Record| record.computed(journal) == record.digest;
    let follows = |record: &Record| record.number == place && record.previous == head.digest && fits(record);
    if follows(record) {
        return Ok(());
    }
    let later = &rest[1..];
    // The right one comes right after: this one was put in before it.
    if later.first().is_some_and(follows) {
        let swapped = record.number == place + 1 && fits(record);
        return Err(if swapped {
            Tampering::Reordered { place, found: record.number }
        } else {
            Tampering::Inserted { place }
        });
    }
    if later.iter().any(follows) {
        return Err(Tampering::Reordered { place, found: record.number });
    }
    if !fits(record) {
        return Err(Tampering::Changed { place });
    }
    if record.number > place {
        return Err(Tampering::Removed { place });
    }
    if record.number < place {
        return Err(Tampering::Inserted { place });
    }
    // In its place and whole, but it follows another record than the one before it. If the next one follows it, it is
    // the original, and the one before was changed together with its digest.
    let original = later.first().is_none_or(|next| next.previous == record.digest);
    Err(Tampering::Changed { place: if original && head.number > 0 { head.number } else { place } })
}
