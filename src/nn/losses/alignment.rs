//! Losses of a sequence of classes that is shorter than the answer, whose places among the steps are not known.

use crate::autograd::Op;

use super::words::{Given, Recorded};

/// -log of the probability that the steps read as the label, class 0 being blank (`tensor/kernels/ctc.rs`). The answer is logits.
pub(super) fn ctc(given: &mut Given<'_>) -> Recorded {
    let graph = &mut *given.graph;
    // A label has a place for each step, so that the steps of an answer are known from it.
    let (rows, steps) = (
        graph.shape(given.label).outer(),
        graph.shape(given.label).last(),
    );
    let classes = graph.shape(given.answer).last() / steps.max(1);
    let logits = graph.reshape(given.answer, &[rows, steps, classes])?;
    let log_p = graph.add(Op::LogSoftmax, &[logits])?;
    graph.add(Op::Ctc, &[log_p, given.label])
}
