//! Who is at the keyboard: stands in the records of what was asked for.

use nix::unistd::{Uid, User};

/// The person who asks: behind `sudo` the one who called it.
pub fn me() -> String {
    let behind_sudo = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty());
    behind_sudo
        .or_else(|| User::from_uid(Uid::current()).ok().flatten().map(|user| user.name))
        .unwrap_or_else(|| format!("uid {}", Uid::current()))
}
