//! Gradients of tensor programs, and the static plans that run them.
//!
//! A program is a `Graph` of primitive operations. Three tables, one line per operation, say all there is to know
//! about each: its shape (`shape_rules.rs`), its gradient as more graph (`rules.rs`) and its kernel (`lower.rs`).
//! A `Plan` fixes order, fusion and memory before the first number is seen; running it allocates nothing.
//! Knows no layers, losses, optimisers or threads.

mod absorb;
mod arena;
mod backward;
pub mod check;
mod definitions;
mod error;
mod execute;
mod fuse;
mod graph;
mod joined;
mod lower;
mod op;
mod plan;
mod rules;
mod shape_rules;
mod simplify;
mod words;

pub use backward::gradients;
pub use error::{GraphError, RunError};
pub use execute::{Bindings, Data};
pub use graph::{Graph, NodeId};
pub use op::{Face, Number, Op, Pooling, Reduction};
pub use plan::{Destination, Plan};
