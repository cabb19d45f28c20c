//! The group's institutions: member credit unions and their branches. Every account is one branch's of one member.

use std::fmt;

use crate::party::PartyId;

/// Longest identifier of a member or branch: the digits of a CNAPS number fit, and so do names.
pub const ID_CHARS_MAX: usize = 32;

/// Not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no identifier: 1 to {ID_CHARS_MAX} of a-z, 0-9 and '-', not at its ends")]
pub struct InstitutionIdError(pub String);

macro_rules! institution_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks the form.
            pub fn new(id: impl Into<String>) -> Result<Self, InstitutionIdError> {
                let id = id.into();
                let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                let ok = (1..=ID_CHARS_MAX).contains(&id.len())
                    && id.bytes().all(plain)
                    && !id.starts_with('-')
                    && !id.ends_with('-');
                if ok { Ok(Self(id)) } else { Err(InstitutionIdError(id.chars().take(ID_CHARS_MAX).collect())) }
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

institution_id!(
    /// A member credit union: a legal person with books of its own.
    MemberId
);
institution_id!(
    /// A branch of a member; unique within the member.
    BranchId
);

/// Whose an account is: the institution that keeps it, and the parties it is kept for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountOwner {
    /// The member in whose books it is.
    pub member: MemberId,
    /// The branch that opened it.
    pub branch: BranchId,
    /// Who may dispose of it: one party, or several jointly; none for the bank's own accounts.
    holders: Vec<PartyId>,
}

/// Most joint holders: beyond it a company is the better form.
pub const HOLDERS_MAX: usize = 10;

/// Not a set of holders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an account has 1 to {HOLDERS_MAX} holders, each once")]
pub struct HoldersError;

impl AccountOwner {
    /// A customer's account.
    pub fn customers(
        member: MemberId,
        branch: BranchId,
        holders: Vec<PartyId>,
    ) -> Result<Self, HoldersError> {
        let each_once = holders.iter().enumerate().all(|(at, holder)| !holders[..at].contains(holder));
        if (1..=HOLDERS_MAX).contains(&holders.len()) && each_once {
            Ok(Self { member, branch, holders })
        } else {
            Err(HoldersError)
        }
    }

    /// An account of the bank itself: cash, clearing, income.
    pub fn house(member: MemberId, branch: BranchId) -> Self {
        Self { member, branch, holders: Vec::new() }
    }

    /// The parties; none for the bank's own accounts.
    pub fn holders(&self) -> &[PartyId] {
        &self.holders
    }

    /// True for the bank's own accounts.
    pub fn is_house(&self) -> bool {
        self.holders.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_and_holders_have_bounds() {
        for good in ["meishan", "qingshen-1", "402651000011"] {
            assert!(MemberId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "眉山", "a b", &"x".repeat(33)] {
            assert!(BranchId::new(bad).is_err(), "{bad}");
        }
        let (member, branch) = (MemberId::new("meishan").unwrap(), BranchId::new("1").unwrap());
        let party = |n: u32| PartyId::new(format!("C-{n}")).unwrap();
        let of = |holders| AccountOwner::customers(member.clone(), branch.clone(), holders);
        assert!(of(vec![party(1), party(2)]).is_ok());
        assert_eq!(of(vec![]), Err(HoldersError));
        assert_eq!(of(vec![party(1), party(1)]), Err(HoldersError));
        assert_eq!(of((0..11).map(party).collect()), Err(HoldersError));
        assert!(AccountOwner::house(member, branch).is_house());
    }
}
