//! The wire: the only folder that names tonic and arrow-flight.

pub mod client;
