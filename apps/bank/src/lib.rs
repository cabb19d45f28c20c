//! dujiang-bank
