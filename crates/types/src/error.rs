//! Errors as the outside sees them: RFC 9457 problem documents with stable codes.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of a problem document.
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $title:literal;)*) => {
        /// Stable error codes. Once published a code keeps its text and meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl Code {
            /// Every code, for documentation and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as it is written in a problem document.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status that goes with it.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// A short summary that is the same for every occurrence.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The request cannot be read as what the endpoint takes.
    RequestInvalid = "request.invalid", 400, "The request is not valid";
    /// The request broke off or did not arrive in time; nothing was executed. Safe to retry.
    RequestIncomplete = "request.incomplete", 408, "The request did not arrive whole; nothing was done";
    /// Body or header over the limit.
    RequestTooLarge = "request.too_large", 413, "The request is too large";
    /// No such path.
    RouteUnknown = "route.unknown", 404, "There is nothing at this path";
    /// The path exists, the method does not.
    MethodNotAllowed = "route.method_not_allowed", 405, "The method is not allowed here";
    /// The request carries no routing key where one is needed.
    RoutingKeyMissing = "routing.key_missing", 400, "The request names no customer or account to route by";
    /// No unit owns the slot.
    SlotUnowned = "routing.slot_unowned", 503, "No unit owns this customer's slot";
    /// The request was meant for another epoch or another home; nothing was executed. Safe to retry.
    UnitMoved = "unit.moved", 503, "The unit has moved; nothing was done";
    /// The unit is not served at the moment; nothing was executed. Safe to retry.
    UnitUnavailable = "unit.unavailable", 503, "The unit is not available at the moment; nothing was done";
    /// Too many requests are waiting or being served; nothing was executed. Safe to retry.
    Overloaded = "unit.overloaded", 503, "Too many requests at the moment; nothing was done";
    /// The request was sent and its outcome is not known: retry with the same key to learn it.
    OutcomeUnknown = "outcome.unknown", 504, "The outcome is not known; retry with the same Idempotency-Key";
    /// A write without `Idempotency-Key`.
    IdempotencyKeyMissing = "idempotency.key_missing", 400, "The request needs an Idempotency-Key";
    /// The key was used before with another request.
    IdempotencyKeyReused = "idempotency.key_reused", 422, "The Idempotency-Key was used with another request";
    /// A first request with this key is still being served.
    IdempotencyInProgress = "idempotency.in_progress", 409, "A request with this Idempotency-Key is being served";
    /// Who asks is known, and may not do this.
    Forbidden = "identity.forbidden", 403, "This identity may not do that";
    /// The resource does not exist.
    NotFound = "resource.not_found", 404, "The resource does not exist";
    /// A resource of that name exists already.
    AlreadyExists = "resource.already_exists", 409, "The resource exists already";
    /// The revision given is not the current one.
    RevisionConflict = "resource.revision_conflict", 412, "The resource was changed by someone else";
    /// Another control server decides at the moment; nothing was executed. Ask that one.
    NotLeading = "control.not_leading", 503, "Another control server decides at the moment; nothing was done";
    /// The watch's start revision is gone: list again.
    Compacted = "store.compacted", 410, "The revision is no longer kept; list again and watch from there";
    /// The store cannot be reached.
    StoreUnavailable = "store.unavailable", 503, "The store is not available at the moment; nothing was done";
    /// The operation is refused by a safety rule; the detail says which.
    Refused = "operation.refused", 409, "The operation is refused by a safety rule";
    /// Money: unknown currency.
    CurrencyUnknown = "money.currency_unknown", 422, "The currency is not known";
    /// Money: account and amount differ in currency.
    CurrencyMismatch = "money.currency_mismatch", 422, "The currencies do not match";
    /// Money: zero, negative or overflowing amount.
    AmountInvalid = "money.amount_invalid", 422, "The amount is not valid";
    /// The account number is malformed or its check digit is wrong.
    AccountNumberInvalid = "account.number_invalid", 422, "The account number is not valid";
    /// No such account.
    AccountNotFound = "account.not_found", 404, "The account does not exist";
    /// No such customer.
    CustomerNotFound = "customer.not_found", 404, "The customer does not exist";
    /// The balance would fall below the account's limit.
    InsufficientFunds = "account.insufficient_funds", 422, "The balance does not suffice";
    /// The posting cannot be reversed (again).
    NotReversible = "posting.not_reversible", 409, "The posting cannot be reversed";
    /// No such posting.
    PostingNotFound = "posting.not_found", 404, "The posting does not exist";
    /// A defect of ours, logged with its whole chain.
    Internal = "internal", 500, "Something went wrong on our side";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An RFC 9457 problem document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Stable code, also the tail of `type`.
    pub code: Code,
    /// URI reference naming the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// Summary, the same for every occurrence of the code.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What was wrong here, and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Seconds after which a retry makes sense, if it is safe at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
}

impl Problem {
    /// A problem of that code with what was wrong and what to do.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            kind: format!("/problems/{code}"),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            retry_after: None,
        }
    }

    /// True if it is certain that nothing was executed this time, so that any request may be sent again. Of an earlier
    /// attempt with the same key it says nothing: whose outcome was unknown, stays unknown.
    pub fn nothing_done(&self) -> bool {
        use Code::{Overloaded, RequestIncomplete, SlotUnowned, UnitMoved, UnitUnavailable};
        matches!(self.code, UnitMoved | UnitUnavailable | Overloaded | SlotUnowned | RequestIncomplete)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.title)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

impl std::error::Error for Problem {}

/// An error with all its causes in one line, for a log or a person. Causes that the error names already are not repeated.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_chain_names_every_cause_once() {
        #[derive(Debug)]
        struct Link(&'static str, Option<Box<Link>>);
        impl fmt::Display for Link {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.0)
            }
        }
        impl std::error::Error for Link {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                self.1.as_deref().map(|cause| cause as &dyn std::error::Error)
            }
        }
        let refused = Link("connection refused", None);
        let said = Link("cannot connect: connection refused", Some(Box::new(refused)));
        let error = Link("cannot read the books", Some(Box::new(said)));
        assert_eq!(chain(&error), "cannot read the books: cannot connect: connection refused");
    }

    #[test]
    fn codes_are_distinct_and_carry_an_error_status() {
        let texts: BTreeSet<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|c| (400..600).contains(&c.status())));
    }

    #[test]
    fn a_problem_survives_its_json() {
        let problem = Problem::new(Code::InsufficientFunds, "balance 1.00 CNY");
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["type"], "/problems/account.insufficient_funds");
        assert_eq!(json["code"], "account.insufficient_funds");
        assert_eq!(serde_json::from_value::<Problem>(json).unwrap(), problem);
    }
}
