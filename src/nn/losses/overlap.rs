//! Losses by how far answer and label overlap, for masks: of all numbers of a row together.

use super::words::{EPSILON, Given, Recorded, other};

/// 1 - 2 sum(t y) / (sum t + sum y).
pub(super) fn dice(given: &mut Given<'_>) -> Recorded {
    let graph = &mut *given.graph;
    let product = graph.times(given.label, given.answer)?;
    let shared = graph.sum_columns(product)?;
    let twice = graph.scaled(shared, 2.0)?;
    let (labelled, answered) = (
        graph.sum_columns(given.label)?,
        graph.sum_columns(given.answer)?,
    );
    let sum = graph.plus(labelled, answered)?;
    let epsilon = graph.constant(EPSILON)?;
    let sum = graph.plus(sum, epsilon)?;
    let share = graph.over(twice, sum)?;
    other(graph, share)
}

/// 1 - sum(t y) / (sum(t y) + alpha sum(t (1 - y)) + beta sum((1 - t) y)) (Salehi et al., 2017), with Keras' roles of
/// alpha and beta. Options: alpha, beta.
pub(super) fn tversky(given: &mut Given<'_>) -> Recorded {
    let (alpha, beta) = (given.values.number(0), given.values.number(1));
    let graph = &mut *given.graph;
    let product = graph.times(given.label, given.answer)?;
    let shared = graph.sum_columns(product)?;
    let (other_y, other_t) = (other(graph, given.answer)?, other(graph, given.label)?);
    let (missed, added) = (
        graph.times(given.label, other_y)?,
        graph.times(given.answer, other_t)?,
    );
    let (missed, added) = (graph.sum_columns(missed)?, graph.sum_columns(added)?);
    let missed = graph.scaled(missed, alpha as f32)?;
    let added = graph.scaled(added, beta as f32)?;
    let apart = graph.plus(missed, added)?;
    let sum = graph.plus(shared, apart)?;
    let epsilon = graph.constant(EPSILON)?;
    let sum = graph.plus(sum, epsilon)?;
    let share = graph.over(shared, sum)?;
    other(graph, share)
}
