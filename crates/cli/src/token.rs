//! Files with a token.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use dujiang_agent::files;
use dujiang_identity::Token;

use crate::failure::Failure;

/// A token takes some two thousand characters.
const BYTES_MAX: u64 = 64 << 10;

/// Reads a token.
pub fn read(file: &Path) -> Result<Token, Failure> {
    let mut text = String::new();
    let opened = std::fs::File::open(file);
    let read = opened.and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| Failure::because(format!("cannot read {}", file.display()), &error))?;
    Token::from_line(&text).map_err(|error| {
        Failure::because(format!("{} holds no token", file.display()), &error)
            .hint("an operator makes one: `dujiang token create --dc DC --out FILE`")
    })
}

/// Writes a token into a file that only its owner may read, and that must not exist.
pub fn write(token: &Token, file: &Path) -> Result<(), Failure> {
    let made = OpenOptions::new().write(true).create_new(true).mode(files::MODE_SECRET).open(file);
    let written = made.and_then(|mut made| writeln!(made, "{}", token.to_line()));
    written.map_err(|error| Failure::because(format!("cannot write {}", file.display()), &error))
}
