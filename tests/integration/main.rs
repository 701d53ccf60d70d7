//! Stories told to real servers: in this process through `node::run`, and to the built program with signals.

mod program;
mod server;
mod tls;
