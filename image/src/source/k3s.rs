//! The k3s payload.
