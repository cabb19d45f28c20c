//! The pure heart of Dujiang: what happens to a unit, and why.
//!
//! Inputs are records, reports and time; outputs are decisions with a sentence saying why. No IO, no clock, no
//! async: the control plane, the agents and the simulator all run exactly this code.
//!
//! * [`controller`]: the control plane's decision about one unit: phases, elections, sync set.
//! * [`election`]: what a set of detached replicas proves, and who may be promoted.
//! * [`exposure`]: what the loss of a unit's home would cost.
//! * [`agent`]: what an agent does next with one replica, and what it reports.
//! * [`leadership`]: which of several control servers decides.
//! * [`lease`]: who may acknowledge until when; promises that outlive the control plane.
//! * [`readiness`]: whether a takeover would work now.
//! * [`safety`]: the rules that are looked at before every move and failover.

pub mod agent;
pub mod controller;
pub mod election;
pub mod exposure;
pub mod leadership;
pub mod lease;
pub mod readiness;
pub mod safety;
pub mod timing;

pub use timing::Timing;
