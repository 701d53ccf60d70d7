//! Reading the serialised form of metric states, and what is said of one that is none.

use crate::nn::error::SpecError;

pub(super) fn malformed(problem: &str) -> SpecError {
    SpecError::Malformed {
        problem: problem.to_string(),
        hint: "all servers of a job must run the same version".to_string(),
    }
}

/// What is left to read.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], SpecError> {
        let (taken, rest) = self
            .bytes
            .split_first_chunk::<N>()
            .ok_or_else(|| malformed("a metric state ends early"))?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub(super) fn slice(&mut self, length: usize) -> Result<&'a [u8], SpecError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or_else(|| malformed("a metric state ends early"))?;
        self.bytes = rest;
        Ok(taken)
    }
}
