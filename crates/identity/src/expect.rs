//! Whom one end of a connection takes the other for.

use dujiang_types::DcId;

use crate::name::{Name, Role};

/// The identities one accepts at the other end. The platform is always one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    roles: Vec<Role>,
    dc: Option<DcId>,
    /// Who is accepted as well.
    or: Option<Box<Expect>>,
}

impl Expect {
    /// Anyone of the platform. Who shows a token is not of it yet.
    pub fn anyone() -> Self {
        let all = Role::ALL.iter().copied().filter(|role| *role != Role::Joiner);
        Self { roles: all.collect(), dc: None, or: None }
    }

    /// These roles, wherever they are.
    pub fn roles(roles: &[Role]) -> Self {
        Self { roles: roles.to_vec(), dc: None, or: None }
    }

    /// What belongs to a data center must belong to this one.
    #[must_use]
    pub fn within(mut self, dc: &DcId) -> Self {
        self.dc = Some(dc.clone());
        self
    }

    /// These, and those as well.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self { or: Some(Box::new(others)), ..self }
    }

    /// Why this is someone else, if it is.
    pub(crate) fn refuses(&self, own: &Name, peer: &Name) -> Option<String> {
        let why = self.refuses_itself(own, peer)?;
        self.or.as_ref().map_or(Some(why), |or| or.refuses(own, peer))
    }

    fn refuses_itself(&self, own: &Name, peer: &Name) -> Option<String> {
        if peer.platform() != own.platform() {
            return Some(format!("{peer} is of another platform"));
        }
        if !self.roles.contains(&peer.role()) {
            return Some(format!("{peer} has no business here"));
        }
        let elsewhere = |dc: &DcId| peer.dc().is_some_and(|of_peer| of_peer != dc);
        self.dc.as_ref().filter(|dc| elsewhere(dc)).map(|dc| format!("{peer} is not of {dc}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platform_role_and_data_center_all_count() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let own = name("spiffe://p/dc/a/gateway");
        let here = Expect::roles(&[Role::Gateway, Role::Operator]).within(&DcId::new("a").unwrap());
        let refuses = |peer| here.refuses(&own, &name(peer));
        assert_eq!(refuses("spiffe://p/dc/a/gateway"), None);
        assert_eq!(refuses("spiffe://p/operator/zhang"), None);
        assert!(refuses("spiffe://p/dc/b/gateway").is_some());
        assert!(refuses("spiffe://p/dc/a/agent").is_some());
        assert!(refuses("spiffe://q/dc/a/gateway").is_some());
    }

    #[test]
    fn a_token_is_accepted_only_by_who_expects_one() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let (own, joiner) = (name("spiffe://p/control"), name("spiffe://p/dc/a/joiner/t-1"));
        assert!(Expect::anyone().refuses(&own, &joiner).is_some());
        assert_eq!(Expect::anyone().refuses(&own, &name("spiffe://p/dc/a/postgres")), None);
        let control = Expect::anyone().or(Expect::roles(&[Role::Joiner]));
        assert_eq!(control.refuses(&own, &joiner), None);
    }

    #[test]
    fn alternatives_keep_their_own_conditions() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let own = name("spiffe://p/dc/a/gateway");
        let here = Expect::roles(&[Role::Application]).within(&DcId::new("a").unwrap());
        let expect = Expect::roles(&[Role::Gateway]).or(here);
        let refuses = |peer| expect.refuses(&own, &name(peer)).is_some();
        assert!(!refuses("spiffe://p/dc/b/gateway") && !refuses("spiffe://p/dc/a/application/bank"));
        assert!(refuses("spiffe://p/dc/b/application/bank") && refuses("spiffe://p/dc/a/agent"));
        assert!(refuses("spiffe://q/dc/a/application/bank"));
    }
}
