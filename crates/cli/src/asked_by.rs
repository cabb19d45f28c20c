//! Who is at the keyboard: stands in the records of what was asked for.

use nix::unistd::{Uid, User};

/// Short enough to be a name with two letters before it.
const NAME_LEN_MAX: usize = 60;

/// The person who asks: behind `sudo` the one who called it.
pub fn me() -> String {
    let behind_sudo = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty());
    behind_sudo
        .or_else(|| User::from_uid(Uid::current()).ok().flatten().map(|user| user.name))
        .unwrap_or_else(|| format!("uid {}", Uid::current()))
}

/// As an identity can carry it: small letters, digits and hyphens, beginning with a letter.
pub fn as_name(person: &str) -> String {
    let plain = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let name: String = person.to_lowercase().chars().map(plain).take(NAME_LEN_MAX).collect();
    let name = name.trim_matches('-');
    if name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name.to_owned()
    } else {
        format!("u-{name}").trim_end_matches('-').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_person_gets_a_name() {
        for (person, name) in [
            ("root", "root"),
            ("Zhang.San", "zhang-san"),
            ("uid 1000", "uid-1000"),
            ("0x", "u-0x"),
            ("\u{5f20}", "u"),
        ] {
            assert_eq!(as_name(person), name);
            dujiang_types::AppId::new(as_name(person)).unwrap();
        }
    }
}
