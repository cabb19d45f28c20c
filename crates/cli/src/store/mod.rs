//! The control store of a platform that is stopped: replaced as a whole.

pub mod members;
pub mod operator;
pub mod recover;
pub mod restore;
