//! How parties stand to each other, and which relations may be.
//!
//! Sources: Civil Code of the People's Republic of China, articles 17 to 39 (age, capacity, guardians) and 61 (legal
//! representative); People's Bank of China and State Administration for Market Regulation, order No. 3 of 2024
//! (beneficial owners: whoever has a quarter or more).

use jiff::civil::Date;

use crate::party::{Party, PartyId, PartyKind};

/// From this share on somebody is a beneficial owner, in basis points: 25 %.
pub const BENEFICIAL_SHARE_MIN: u16 = 2_500;
/// All of it, in basis points.
const WHOLE: u32 = 10_000;
/// Most relations of one party: signatories of a large company, with room.
pub const RELATIONS_MAX: usize = 200;

/// What somebody is to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    /// Acts for a company by law; one at a time.
    LegalRepresentative,
    /// May dispose of the accounts of a company or of a person of age.
    AuthorisedSignatory,
    /// Owns or controls a company in the end.
    BeneficialOwner {
        /// Share in basis points; 0 for control by other means.
        share_bp: u16,
    },
    /// Acts for a person who cannot.
    Guardian,
}

/// A relation: `holder` is that to `of`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// What.
    pub kind: RelationKind,
    /// Who is it.
    pub holder: PartyId,
    /// To whom.
    pub of: PartyId,
    /// First day.
    pub from: Date,
    /// Last day, if there is one.
    pub until: Option<Date>,
}

impl Relation {
    /// True if it holds on that day.
    pub fn holds_on(&self, day: Date) -> bool {
        self.from <= day && self.until.is_none_or(|until| day <= until)
    }

    /// True if there is a day on which both hold.
    fn overlaps(&self, other: &Self) -> bool {
        self.until.is_none_or(|until| other.from <= until)
            && other.until.is_none_or(|until| self.from <= until)
    }
}

/// Why a relation may not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RelationRefusal {
    /// The parties shown are not those of the relation.
    #[error("the parties are not those of the relation")]
    Parties,
    /// To oneself.
    #[error("nobody is that to themselves")]
    Oneself,
    /// It ends before it begins.
    #[error("it ends before it begins")]
    Term,
    /// The holder must be a person.
    #[error("only a person can be that")]
    NotAPerson,
    /// The holder must act alone.
    #[error("only a person of age and capable can be that")]
    NotCapable,
    /// Only companies have that.
    #[error("only a company has that")]
    NotACompany,
    /// A ward is a minor or was found incapable.
    #[error("a guardian is for a minor, or for a person found incapable")]
    NoWard,
    /// A ward gives no authority: its guardian acts.
    #[error("a person who does not act alone gives no authority: the guardian acts")]
    WardGivesNoAuthority,
    /// There is one in that time.
    #[error("there is one in that time already: end it first")]
    Taken,
    /// Shares beyond the whole.
    #[error("the shares come to more than the whole")]
    ShareBeyondWhole,
    /// A share below what makes a beneficial owner.
    #[error("below a quarter nobody is a beneficial owner by share; control by other means has share 0")]
    ShareTooSmall,
    /// More than a party may have.
    #[error("a party has at most {RELATIONS_MAX} relations")]
    TooMany,
}

/// Judges a new relation beside those that its subject has.
///
/// `existing` are all relations to `of`. The day of judgement is the relation's first one: age counts then.
pub fn judge(
    relation: &Relation,
    holder: &Party,
    of: &Party,
    existing: &[Relation],
) -> Result<(), RelationRefusal> {
    use RelationRefusal as No;
    if *holder.id() != relation.holder || *of.id() != relation.of {
        return Err(No::Parties);
    }
    if relation.holder == relation.of {
        return Err(No::Oneself);
    }
    if relation.until.is_some_and(|until| until < relation.from) {
        return Err(No::Term);
    }
    if existing.len() >= RELATIONS_MAX {
        return Err(No::TooMany);
    }
    let is_person = matches!(holder.kind(), PartyKind::Person { .. });
    let of_company = matches!(of.kind(), PartyKind::Company);
    if !is_person {
        return Err(No::NotAPerson);
    }
    // Children inherit shares, so a beneficial owner may be one; all others act.
    let acts = !matches!(relation.kind, RelationKind::BeneficialOwner { .. });
    if acts && !holder.acts_alone_on(relation.from) {
        return Err(No::NotCapable);
    }
    match relation.kind {
        RelationKind::LegalRepresentative | RelationKind::BeneficialOwner { .. } if !of_company => {
            return Err(No::NotACompany);
        }
        RelationKind::AuthorisedSignatory if !of_company && !of.acts_alone_on(relation.from) => {
            return Err(No::WardGivesNoAuthority);
        }
        RelationKind::Guardian if of_company || of.acts_alone_on(relation.from) => return Err(No::NoWard),
        RelationKind::BeneficialOwner { share_bp } if share_bp != 0 && share_bp < BENEFICIAL_SHARE_MIN => {
            return Err(No::ShareTooSmall);
        }
        _ => {}
    }
    judge_beside(relation, existing)
}

fn judge_beside(relation: &Relation, existing: &[Relation]) -> Result<(), RelationRefusal> {
    let beside = existing.iter().filter(|other| other.of == relation.of && other.overlaps(relation));
    let mut shares = 0_u32;
    for other in beside {
        match (other.kind, relation.kind) {
            (RelationKind::LegalRepresentative, RelationKind::LegalRepresentative) => {
                return Err(RelationRefusal::Taken);
            }
            (RelationKind::BeneficialOwner { share_bp }, RelationKind::BeneficialOwner { .. }) => {
                if other.holder == relation.holder {
                    return Err(RelationRefusal::Taken);
                }
                shares += u32::from(share_bp);
            }
            (RelationKind::AuthorisedSignatory, RelationKind::AuthorisedSignatory)
            | (RelationKind::Guardian, RelationKind::Guardian)
                if other.holder == relation.holder =>
            {
                return Err(RelationRefusal::Taken);
            }
            _ => {}
        }
    }
    match relation.kind {
        RelationKind::BeneficialOwner { share_bp } if shares + u32::from(share_bp) > WHOLE => {
            Err(RelationRefusal::ShareBeyondWhole)
        }
        _ => Ok(()),
    }
}

/// What a party still lacks before it may do business on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lacking {
    /// No document holds.
    #[error("no identity document holds on that day")]
    Document,
    /// A company without legal representative.
    #[error("the company has no legal representative")]
    LegalRepresentative,
    /// A company without beneficial owner.
    #[error("nobody is named who owns or controls the company")]
    BeneficialOwner,
    /// A ward without guardian.
    #[error("the person does not act alone and has no guardian")]
    Guardian,
}

/// Everything that a party lacks; nothing means that it can become active.
pub fn lacking(party: &Party, relations: &[Relation], day: Date) -> Vec<Lacking> {
    let has = |wanted: fn(RelationKind) -> bool| {
        relations.iter().any(|r| r.of == *party.id() && r.holds_on(day) && wanted(r.kind))
    };
    let mut lacking = Vec::new();
    if !party.is_identified_on(day) {
        lacking.push(Lacking::Document);
    }
    match party.kind() {
        PartyKind::Company => {
            if !has(|kind| kind == RelationKind::LegalRepresentative) {
                lacking.push(Lacking::LegalRepresentative);
            }
            if !has(|kind| matches!(kind, RelationKind::BeneficialOwner { .. })) {
                lacking.push(Lacking::BeneficialOwner);
            }
        }
        PartyKind::Person { .. } => {
            if !party.acts_alone_on(day) && !has(|kind| kind == RelationKind::Guardian) {
                lacking.push(Lacking::Guardian);
            }
        }
    }
    lacking
}
