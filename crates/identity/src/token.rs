//! Tokens by which a machine that has no identity yet becomes a data center's agent.
//!
//! A token is an identity itself: certified by the platform's authority for as long as the token may be used, good for
//! asking one thing of control servers once, and for nothing else anywhere. So whoever joins proves by the handshake that
//! they have the secret, which no message carries; and looks in the same handshake at who answers.

use std::fmt;
use std::time::SystemTime;

use crate::bundle::Bundle;
use crate::error::Error;
use crate::identity::Identity;
use crate::name::{Name, Role};

/// What every token begins with, so that people and scanners of secrets know one when they see it.
const PREFIX: &str = "dujiang-join-1.";
/// Three parts of a few hundred characters each.
const LENGTH_MAX: usize = 8 << 10;

/// A token.
#[derive(Clone)]
pub struct Token {
    bundle: Bundle,
    name: Name,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.name)
    }
}

impl Token {
    /// Of the identity that was certified for it.
    pub fn new(bundle: Bundle) -> Result<Self, Error> {
        let name = bundle.name()?;
        if name.role() == Role::Joiner {
            Ok(Self { bundle, name })
        } else {
            Err(Error::Invalid(format!("{name} is not the name of a token")))
        }
    }

    /// As it is handed over: one line. It is a secret.
    pub fn to_line(&self) -> String {
        format!("{PREFIX}{}", self.bundle.to_line())
    }

    /// Reads what [`Self::to_line`] has made.
    pub fn from_line(line: &str) -> Result<Self, Error> {
        let rest = line.trim().strip_prefix(PREFIX).filter(|rest| rest.len() <= LENGTH_MAX);
        let unusable = |why: &str| Error::Invalid(format!("this is not a token that can be used: {why}"));
        let rest = rest.ok_or_else(|| unusable("it begins with something else, or is too long"))?;
        let bundle = Bundle::from_line(rest).map_err(|error| unusable(&error.to_string()))?;
        Self::new(bundle)
    }

    /// Its name: platform, data center, and the token's own.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Until when it can be used.
    pub fn not_after(&self) -> Result<SystemTime, Error> {
        self.bundle.not_after()
    }

    /// The certificate of the authority that made it, which is that of the platform.
    pub fn authority(&self) -> &str {
        self.bundle.authority()
    }

    /// The identity to ask with.
    pub fn identity(&self) -> Result<Identity, Error> {
        Identity::for_once(&self.bundle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestAuthority;

    #[test]
    fn a_token_is_read_as_it_is_written_and_shown_to_nobody() {
        let authority = TestAuthority::default();
        let token = Token::new(authority.bundle("dc/a/joiner/t-1")).unwrap();
        let line = token.to_line();
        assert!(line.starts_with(PREFIX) && !line.contains(char::is_whitespace));
        let read = Token::from_line(&format!("{line}\n")).unwrap();
        assert_eq!(read.to_line(), line);
        assert_eq!(read.name(), &authority.name("dc/a/joiner/t-1"));
        assert_eq!(read.identity().unwrap().name(), read.name());
        assert_eq!(format!("{read:?}"), "Token(spiffe://test/dc/a/joiner/t-1)");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let authority = TestAuthority::default();
        let line = Token::new(authority.bundle("dc/a/joiner/t-1")).unwrap().to_line();
        let other = Token::new(authority.bundle("dc/a/joiner/t-1")).unwrap().to_line();
        let (front, _) = line.rsplit_once('.').unwrap();
        let (_, key) = other.rsplit_once('.').unwrap();
        let wrong_secret = format!("{front}.{key}");
        for wrong in ["", "dujiang-join-1.", "dujiang-join-1.a.b.c", &line[1..], front, &wrong_secret] {
            assert!(Token::from_line(wrong).is_err(), "{wrong}");
        }
        let too_long = format!("{line}{}", "A".repeat(LENGTH_MAX));
        assert!(Token::from_line(&too_long).is_err());
        // The identity of an agent is none.
        assert!(Token::new(authority.bundle("dc/a/agent")).is_err());
    }
}
