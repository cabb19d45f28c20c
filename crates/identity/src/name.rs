//! Names of identities.

use std::fmt;
use std::str::FromStr;

use dujiang_types::{AppId, DcId, PlatformId};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Scheme of the URI that names an identity.
const SCHEME: &str = "spiffe://";
/// Role in every database that only the agent uses; its certificate carries it as common name.
pub const AGENT_DATABASE_ROLE: &str = "dujiang";
/// Role in every database that only other replicas use; the databases' own certificates carry it.
pub const REPLICATION_DATABASE_ROLE: &str = "dujiang_replication";
/// Common name of the store's members, by which they tell each other from their clients.
pub const STORE_COMMON_NAME: &str = "etcd";

/// What a process or person is on the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A control server.
    Control,
    /// A data center's agent.
    Agent,
    /// A data center's gateway.
    Gateway,
    /// An instance of an application; the name is the application's.
    Application,
    /// A unit's database.
    Postgres,
    /// A member of the store.
    Store,
    /// A person, or a pipeline that acts for one; the name says which.
    Operator,
    /// Whoever shows a token to become a data center's agent; the name is the token's.
    Joiner,
}

impl Role {
    /// Every role.
    pub const ALL: &'static [Self] = &[
        Self::Control,
        Self::Agent,
        Self::Gateway,
        Self::Application,
        Self::Postgres,
        Self::Store,
        Self::Operator,
        Self::Joiner,
    ];

    /// As it is written in a name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Agent => "agent",
            Self::Gateway => "gateway",
            Self::Application => "application",
            Self::Postgres => "postgres",
            Self::Store => "store",
            Self::Operator => "operator",
            Self::Joiner => "joiner",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The name of an identity: `spiffe://PLATFORM/dc/DC/ROLE[/NAME]`, or without `dc/DC` if it belongs to no data center.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name {
    platform: PlatformId,
    dc: Option<DcId>,
    role: Role,
    own: Option<AppId>,
}

impl Name {
    /// A process that is the only one of its role in its data center.
    pub fn in_dc(platform: &PlatformId, dc: &DcId, role: Role) -> Self {
        Self { platform: platform.clone(), dc: Some(dc.clone()), role, own: None }
    }

    /// Instances of an application in a data center.
    pub fn application(platform: &PlatformId, dc: &DcId, application: &AppId) -> Self {
        Self { own: Some(application.clone()), ..Self::in_dc(platform, dc, Role::Application) }
    }

    /// A control server outside the data centers.
    pub fn control(platform: &PlatformId) -> Self {
        Self { platform: platform.clone(), dc: None, role: Role::Control, own: None }
    }

    /// A person. The name follows the rules of all names.
    pub fn operator(platform: &PlatformId, name: &str) -> Result<Self, Error> {
        let name = AppId::new(name).map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(Self { platform: platform.clone(), dc: None, role: Role::Operator, own: Some(name) })
    }

    /// Whoever shows the token of that name.
    pub fn joiner(platform: &PlatformId, dc: &DcId, token: &str) -> Result<Self, Error> {
        let token = AppId::new(token).map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(Self { own: Some(token), ..Self::in_dc(platform, dc, Role::Joiner) })
    }

    /// The platform.
    pub fn platform(&self) -> &PlatformId {
        &self.platform
    }

    /// The data center, if it belongs to one.
    pub fn dc(&self) -> Option<&DcId> {
        self.dc.as_ref()
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The name within the role: an application's, a person's or a token's.
    pub fn within_role(&self) -> Option<&str> {
        self.own.as_ref().map(AppId::as_str)
    }

    /// The certificate's common name. Databases and the store know roles only by it: what is a role of a database, or
    /// a member of the store, is that alone; everything else has a slash in it, which no such name has.
    pub(crate) fn common_name(&self) -> String {
        match (self.role, &self.own) {
            (Role::Agent, _) => AGENT_DATABASE_ROLE.to_owned(),
            (Role::Postgres, _) => REPLICATION_DATABASE_ROLE.to_owned(),
            (Role::Store, _) => STORE_COMMON_NAME.to_owned(),
            (Role::Application, Some(name)) => name.to_string(),
            (role, Some(name)) => format!("{role}/{name}"),
            (role, None) => format!("role/{role}"),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.platform)?;
        if let Some(dc) = &self.dc {
            write!(f, "/dc/{dc}")?;
        }
        write!(f, "/{}", self.role)?;
        self.own.as_ref().map_or(Ok(()), |name| write!(f, "/{name}"))
    }
}

impl FromStr for Name {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::Invalid(format!(
                "{text:?} is not an identity's name: {SCHEME}PLATFORM[/dc/DC]/ROLE[/NAME]"
            ))
        };
        let mut words = text.strip_prefix(SCHEME).ok_or_else(wrong)?.split('/').peekable();
        let platform = words.next().and_then(|word| PlatformId::new(word).ok()).ok_or_else(wrong)?;
        let dc = match words.next_if_eq(&"dc") {
            Some(_) => Some(words.next().and_then(|word| DcId::new(word).ok()).ok_or_else(wrong)?),
            None => None,
        };
        let role = words.next().ok_or_else(wrong)?;
        let role = *Role::ALL.iter().find(|known| known.as_str() == role).ok_or_else(wrong)?;
        let name = words.next().map(AppId::new).transpose().map_err(|_| wrong())?;
        let named = matches!(role, Role::Application | Role::Operator | Role::Joiner);
        let placed = !matches!(role, Role::Control | Role::Operator);
        let elsewhere = role == Role::Operator && dc.is_some();
        if words.next().is_some() || named != name.is_some() || placed && dc.is_none() || elsewhere {
            return Err(wrong());
        }
        Ok(Self { platform, dc, role, own: name })
    }
}

impl TryFrom<String> for Name {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for text in [
            "spiffe://demo/dc/a/agent",
            "spiffe://demo/dc/a/application/bank",
            "spiffe://demo/control",
            "spiffe://demo/dc/a/control",
            "spiffe://demo/operator/zhang",
            "spiffe://demo/dc/a/joiner/t-0190f3b2",
        ] {
            assert_eq!(text.parse::<Name>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nothing_else_is_a_name() {
        for text in [
            "http://demo/control",
            "spiffe://demo",
            "spiffe://demo/",
            "spiffe://demo/agent",
            "spiffe://demo/dc/a",
            "spiffe://demo/dc/a/agent/x",
            "spiffe://demo/dc/a/application",
            "spiffe://demo/dc/a/application/bank/more",
            "spiffe://demo/dc/a/operator/zhang",
            "spiffe://demo/operator",
            "spiffe://demo/joiner/t-0190f3b2",
            "spiffe://demo/dc/a/joiner",
            "spiffe://demo/dc/A/agent",
            "spiffe://demo/dc/a/root",
        ] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_who_uses_a_database_is_named_like_a_role_of_it() {
        let common = |text: &str| text.parse::<Name>().unwrap().common_name();
        assert_eq!(common("spiffe://p/dc/a/application/bank"), "bank");
        assert_eq!(common("spiffe://p/dc/a/agent"), "dujiang");
        for other in ["spiffe://p/operator/bank", "spiffe://p/dc/a/gateway", "spiffe://p/control"] {
            assert!(common(other).contains('/'), "{other}");
        }
    }
}
