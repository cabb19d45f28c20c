//! dujiang-sim
