//! What every layer may lean on and what knows nothing of ours.

pub mod random;
