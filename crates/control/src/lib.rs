//! dujiang-control
