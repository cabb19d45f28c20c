//! dujiang-types
