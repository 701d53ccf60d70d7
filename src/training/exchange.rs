//! The gradient exchange: partial sums to owners, new values back.
