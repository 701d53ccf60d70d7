//! Builds everything once, in layer order.
