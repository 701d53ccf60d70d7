pub mod autograd;
pub mod nn;
pub mod optim;
pub mod support;
pub mod tensor;
