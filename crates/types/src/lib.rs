//! The words every part of Dujiang shares: identifiers, epochs, money, resources, reports and errors.
//!
//! Pure: no IO, no clock, no async runtime. What is stored and what travels between processes is defined
//! here once, so that a field means the same to a controller, an agent, a gateway and an application.

pub mod api;
pub mod dns;
pub mod error;
pub mod exposure;
pub mod ids;
pub mod loss;
pub mod money;
pub mod operation;
pub mod platform;
pub mod position;
pub mod readiness;
pub mod report;
pub mod resource;
pub mod unit;

pub use error::{Code, Problem};
pub use ids::{AppId, DcId, Epoch, OperationId, PlatformId, RegionId, Revision, Slot, SlotRange, UnitId};
pub use money::{Currency, Money, MoneyError};
pub use position::{Lsn, Position};
pub use resource::{Condition, Kind, Resource, Tri};
