//! dujiang-store
