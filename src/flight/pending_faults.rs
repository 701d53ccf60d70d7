use crate::support::fault::{Fault, Faulty};
macro_rules! pending { ($($t:ty),*) => { $(impl Faulty for $t { fn fault(&self) -> Fault { Fault::Internal } })* } }
pending!(
    crate::catalog::CatalogError,
    crate::features::FeatureError,
    crate::serving::ServingError,
    crate::training::TrainingError
);
