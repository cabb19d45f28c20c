//! dujiang-sdk
