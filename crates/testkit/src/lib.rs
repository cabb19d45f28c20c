//! dujiang-testkit
