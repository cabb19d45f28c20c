//! dujiang-gateway
