//! One file per subcommand. Each has a `pub struct Args` (`clap::Args`) and a
//! `pub fn run(args: &Args, context: &Context) -> Result<(), Failure>`; what is asynchronous in it goes through
//! [`Context::block_on`](crate::context::Context::block_on). The doc comment of `Args` is its help; its variant
//! stands in `cli::Command`.

pub mod agent;
pub mod apply;
pub mod approve;
pub mod completion;
pub mod control;
pub mod delete;
pub mod down;
pub mod drill;
pub mod evidence;
pub mod gateway;
pub mod get;
pub mod guard;
pub mod load;
pub mod logs;
pub mod manifest;
pub mod move_unit;
pub mod operations;
pub mod operator;
pub mod site;
pub mod status;
pub mod store;
pub mod token;
pub mod unit;
pub mod up;
pub mod verify;
pub mod version;
pub mod watch;
