//! Which timeline a start recovers to: the one the log here ends on, when a newer one is only known by name.
//!
//! A follower fetches the history of a new timeline before its log. If that timeline's primary dies in between, PostgreSQL
//! goes on as if the log here were the new timeline's: a promotion names it as its parent. Then the new primary's history
//! has a timeline whose first segment the new primary does not have. Followers that are behind in that segment ask for it
//! under that name in vain for ever; and if the timeline began beyond the end of the log here, they would be sent whatever
//! lies between.
//!
//! So a start recovers to the timeline of the log's end then, a detached replica is started anew if it has heard of a
//! newer one, and whoever follows afterwards starts once more, because only a start can take that back.

use dujiang_types::Lsn;

use super::error::{PostgresError, file};
use super::run::RESTART_BUDGET;
use super::short::{Beginning, CHECK_TIMEOUT, beginnings};
use super::{Replica, wal};

/// What `pg_waldump` says where no record is.
const NO_RECORD: &str = "could not find a valid record after";

impl Replica {
    /// The timeline the log here ends on, if there is a history of a newer one. Looks at the disk, so that it can be asked
    /// before a start.
    pub(super) async fn target(&self) -> Result<Option<u32>, PostgresError> {
        let pg_wal = self.pg_wal();
        let within = pg_wal.clone();
        let look = move |_: &_| beginnings(&within).map_err(file("look for timelines in", &within));
        let begun = self.on_disk(look).await?;
        let Some(newest) = begun.first() else { return Ok(None) };
        if self.has_log_of(newest).await? {
            return Ok(None);
        }
        // Log of the control file's timelines need not be there any more.
        let known = self.control().await?.timeline();
        if known >= newest.timeline {
            return Ok(None);
        }
        for older in begun.iter().skip(1).take_while(|older| older.timeline > known) {
            if self.has_log_of(older).await? {
                return Ok(Some(older.timeline));
            }
        }
        // PostgreSQL refuses to recover to what it has no history of; timeline 1 needs none.
        let told = known == 1 || begun.iter().any(|beginning| beginning.timeline == known);
        Ok(told.then_some(known))
    }

    /// True if the running server may take a timeline for its own of which there is no log here.
    pub(super) async fn is_misled(&self) -> Result<bool, PostgresError> {
        Ok(self.state().target.is_none() && self.target().await?.is_some())
    }

    /// Has the running standby follow the upstream its state names to whatever timeline that is on. Nothing is done if it
    /// would already. Started with the upstream: if the newest timeline's segment here is shorter than the log was, what
    /// is missing comes from there.
    pub(super) async fn lift_target(&self) -> Result<(), PostgresError> {
        let Some(timeline) = self.state().target else { return Ok(()) };
        tracing::info!(unit = %self.settings.unit, timeline, "is started anew to leave its timeline");
        self.stop_in_order(RESTART_BUDGET).await?;
        self.change(|state| state.target = None).await?;
        self.files.write(&self.settings, &self.state())?;
        self.run_prepared().await
    }

    /// True unless it is certain that not even the first record of a timeline is here: hiding log would be worse than
    /// what a target is good for.
    async fn has_log_of(&self, beginning: &Beginning) -> Result<bool, PostgresError> {
        let (pg_wal, timeline, at) = (self.pg_wal(), beginning.timeline, beginning.begins());
        if !pg_wal.join(format!("{timeline:08X}{}", wal::segment(at))).exists() {
            return Ok(false);
        }
        let (pg_wal, timeline, at) = (pg_wal.display().to_string(), timeline.to_string(), at.to_string());
        let args = ["-q", "-p", &pg_wal, "-t", &timeline, "-s", &at, "-n", "1"];
        match self.tool("pg_waldump", &args, String::new(), CHECK_TIMEOUT).await {
            Err(PostgresError::Tool { excerpt, .. }) => Ok(!excerpt.contains(NO_RECORD)),
            read => read.map(|_| true),
        }
    }
}

impl wal::History {
    /// The segments an upstream with this history sends from, for somebody whose log ends with the byte before `end` on
    /// `timeline`: a segment in which a timeline was left is sent under the next one's name.
    pub(super) fn first_segments(&self, timeline: u32, end: Lsn) -> Vec<String> {
        let place = wal::segment(Lsn(end.0.saturating_sub(1)));
        let mut at = timeline;
        let mut files = Vec::new();
        for (index, (ancestor, left)) in self.ancestors.iter().enumerate() {
            if *ancestor == at && wal::segment(*left) == place {
                at = self.ancestors.get(index + 1).map_or(self.timeline, |(next, _)| *next);
                files.push(format!("{at:08X}{place}"));
            }
        }
        if files.is_empty() {
            files.push(format!("{timeline:08X}{place}"));
        }
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_sent_under_the_name_of_the_timeline_it_was_left_for() {
        const MB: u64 = wal::SEGMENT_BYTES;
        let ancestors = vec![(1, Lsn(MB + 10)), (2, Lsn(3 * MB + 20)), (4, Lsn(3 * MB + 30))];
        let history = wal::History { timeline: 5, ancestors };
        let sent = |timeline, end| history.first_segments(timeline, Lsn(end));
        assert_eq!(sent(1, 5), ["000000010000000000000000"]);
        assert_eq!(sent(1, MB + 5), ["000000020000000000000001"]);
        assert_eq!(sent(2, 2 * MB + 5), ["000000020000000000000002"]);
        assert_eq!(sent(2, 3 * MB + 5), ["000000040000000000000003", "000000050000000000000003"]);
        assert_eq!(sent(4, 3 * MB + 25), ["000000050000000000000003"]);
        assert_eq!(sent(5, 3 * MB + 40), ["000000050000000000000003"]);
        assert_eq!(sent(5, 4 * MB), ["000000050000000000000003"], "with the last byte of it");
    }
}
