//! dujiang-agent
