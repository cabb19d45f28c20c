//! A business act: who did what, when, on which object, what it was before and after, and who approved.

use std::fmt;

use jiff::Timestamp;

use super::digest::Fields;

/// Longest name of an actor, role, act or object.
pub const WORD_CHARS_MAX: usize = 140;
/// Most bytes of an object's state before or after: a party with all its relations.
pub const STATE_BYTES_MAX: usize = 64 << 10;

/// Somebody, in a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Number of the officer, or name of the program that acted.
    pub id: String,
    /// The role in which.
    pub role: String,
}

/// The second person's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Who approved.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
}

/// What was done.
#[derive(Clone, PartialEq, Eq)]
pub struct Act {
    /// Who.
    pub who: Actor,
    /// When, in microseconds.
    pub at: Timestamp,
    /// What: `account.block`.
    pub what: String,
    /// On what kind of object: `account`.
    pub kind: String,
    /// On which: its number.
    pub object: String,
    /// What it was before, as canonical JSON or another text; none if it was not there.
    pub before: Option<String>,
    /// What it is now; none if it is gone.
    pub after: Option<String>,
    /// Who approved, if somebody had to.
    pub approval: Option<Approval>,
}

/// States are objects with all their personal data: of them only the size is printed.
impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Act")
            .field("who", &self.who)
            .field("at", &self.at)
            .field("what", &self.what)
            .field("kind", &self.kind)
            .field("object", &self.object)
            .field("before_bytes", &self.before.as_ref().map(String::len))
            .field("after_bytes", &self.after.as_ref().map(String::len))
            .field("approval", &self.approval)
            .finish()
    }
}

/// Why an act is not journalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// A word that is empty or too long.
    #[error("{0} has 1 to {WORD_CHARS_MAX} characters")]
    Word(&'static str),
    /// A state that is too large.
    #[error("a state has at most {STATE_BYTES_MAX} bytes")]
    State,
    /// Somebody approved their own act.
    #[error("nobody approves their own act")]
    OwnApproval,
    /// The numbers are used up.
    #[error("the journal is full: begin another one")]
    Full,
}

impl Act {
    pub(super) fn in_microseconds(mut self) -> Self {
        self.at = cut(self.at);
        if let Some(approval) = &mut self.approval {
            approval.at = cut(approval.at);
        }
        self
    }

    pub(super) fn check(&self) -> Result<(), ActError> {
        let word = |text: &str, name| {
            let ok = !text.trim().is_empty() && text.chars().count() <= WORD_CHARS_MAX;
            if ok { Ok(()) } else { Err(ActError::Word(name)) }
        };
        word(&self.who.id, "the actor's number")?;
        word(&self.who.role, "the actor's role")?;
        word(&self.what, "the act's name")?;
        word(&self.kind, "the kind of object")?;
        word(&self.object, "the object's number")?;
        if [&self.before, &self.after].into_iter().flatten().any(|state| state.len() > STATE_BYTES_MAX) {
            return Err(ActError::State);
        }
        if let Some(approval) = &self.approval {
            word(&approval.by.id, "the approver's number")?;
            word(&approval.by.role, "the approver's role")?;
            if approval.by.id == self.who.id {
                return Err(ActError::OwnApproval);
            }
        }
        Ok(())
    }

    /// Adds every field, in an order that is part of the format.
    pub(super) fn encode(&self, fields: Fields) -> Fields {
        let approval = self.approval.as_ref();
        fields
            .text(&self.who.id)
            .text(&self.who.role)
            .number(self.at.as_microsecond().into())
            .text(&self.what)
            .text(&self.kind)
            .text(&self.object)
            .maybe(self.before.as_deref())
            .maybe(self.after.as_deref())
            .maybe(approval.map(|approval| approval.by.id.as_str()))
            .maybe(approval.map(|approval| approval.by.role.as_str()))
            .number(approval.map_or(0, |approval| approval.at.as_microsecond().into()))
    }
}

/// A time without what is below a microsecond.
fn cut(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}
