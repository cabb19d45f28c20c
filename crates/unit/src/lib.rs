//! dujiang-unit
