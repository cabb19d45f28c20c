//! dujiang-routing
