//! Asking for what another operator has to approve.

use dujiang_types::operation::{Operation, OperationSpec, Work};

use crate::asked_by;
use crate::client::Client;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Format};

/// Asks, and says how it is approved.
pub(super) fn ask(work: Work, format: Format, context: &Context) -> Result<(), Failure> {
    let client = Client::of(context)?;
    let spec = OperationSpec { work, asked_by: asked_by::me() };
    let operation: Operation = context.block_on(client.post("/v1/operations", &spec))?;
    if format == Format::Json {
        return output::json(&operation);
    }
    if let Some(step) = operation.status.steps.first() {
        output::line(&step.reason)?;
    }
    let until = operation.status.approval.map(|approval| format!(" until {:.0}", approval.expires_at));
    output::line(format_args!(
        "another operator approves it{}: dujiang approve {}",
        until.unwrap_or_default(),
        operation.name
    ))
}
