//! Gradients of tensor programs, and the static plans that run them. Knows no layers or losses.
