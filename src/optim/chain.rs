//! Composition: transforms one after the other, each tile passing through all of them while it is in the cache.
//!
//! A whole-model transform cuts the chain in stages: before it every owner measures its blocks, and all of them exchange
//! the sums. A chain without one is a single stage.

use std::ops::Range;

use super::blocks::{ArrayBlocks, ArrayNorms};
use super::transforms::{GradientTransform, Moment, SLOTS_MAX, Scope, add};

/// Numbers per tile: 2 KiB, so that a tile of everything an optimiser touches fits the first-level cache.
const TILE: usize = 512;
/// Most transforms of one chain.
pub const TRANSFORMS_MAX: usize = 8;

pub(super) type Prepared = [[f32; 4]; TRANSFORMS_MAX];

/// Transforms in order. What comes out of the last is added to the parameters.
#[derive(Debug)]
pub struct Chain {
    transforms: Vec<Box<dyn GradientTransform>>,
    /// Where the whole-model transforms are.
    rounds: Vec<usize>,
}

/// What an owner of a stretch of the flat vector has of it.
#[derive(Debug)]
pub struct Cut<'a> {
    /// Position of its first number in the flat vector.
    pub start: usize,
    pub parameters: &'a mut [f32],
    /// The gradient before the first stage, and what became of it between stages.
    pub update: &'a mut [f32],
    pub slots: &'a mut [Vec<f32>],
}

impl Chain {
    /// Panics beyond the stated bounds; recipes are written in this folder.
    pub(super) fn new(transforms: Vec<Box<dyn GradientTransform>>) -> Self {
        assert!(transforms.len() <= TRANSFORMS_MAX, "a chain is short");
        assert!(
            transforms
                .iter()
                .all(|transform| transform.slot_names().len() <= SLOTS_MAX),
            "a transform keeps few slots"
        );
        let positions = transforms.iter().enumerate();
        let rounds = positions
            .filter(|(_, transform)| transform.scope() == Scope::WholeModel)
            .map(|(position, _)| position)
            .collect();
        Chain { transforms, rounds }
    }

    pub fn scope(&self) -> Scope {
        if self.rounds.is_empty() {
            Scope::Elementwise
        } else {
            Scope::WholeModel
        }
    }

    /// How often owners must exchange sums in an update: once for each whole-model transform.
    pub(super) fn rounds(&self) -> usize {
        self.rounds.len()
    }

    /// Sums per block of the exchange that follows a stage: of the update, and of the parameters where they are needed.
    pub(super) fn sums_per_block(&self, stage: usize) -> usize {
        let next = &self.transforms[self.rounds[stage]];
        if next.measures_parameters() { 2 } else { 1 }
    }

    /// Name and first value of every state vector, in the order in which `update` takes them.
    pub fn slots(&self) -> Vec<(&'static str, f32)> {
        self.transforms
            .iter()
            .flat_map(|transform| {
                let names = transform.slot_names().iter().copied();
                names.zip(transform.slot_starts())
            })
            .collect()
    }

    /// One update of a cut of the vector by a chain of one stage. Panics when a slice has another length than the
    /// parameters, a slot is missing, or the chain needs norms.
    pub fn update(
        &self,
        moment: &Moment,
        parameters: &mut [f32],
        gradient: &[f32],
        slots: &mut [Vec<f32>],
    ) {
        assert!(
            self.rounds.is_empty(),
            "a chain that needs norms is run by its stages"
        );
        self.check_lengths(parameters, gradient, slots);
        self.update_part(&self.prepare(moment), parameters, gradient, slots, 0);
    }

    /// One update of some parameters whose slots begin at `at`, by a chain of one stage.
    pub(super) fn update_part(
        &self,
        prepared: &Prepared,
        parameters: &mut [f32],
        gradient: &[f32],
        slots: &mut [Vec<f32>],
        at: usize,
    ) {
        let mut update = [0.0f32; TILE];
        let mut start = 0;
        while start < parameters.len() {
            let end = parameters.len().min(start + TILE);
            let update = &mut update[..end - start];
            update.copy_from_slice(&gradient[start..end]);
            let all = 0..self.transforms.len();
            let parameters = &mut parameters[start..end];
            let tile = at + start..at + end;
            self.apply(all, prepared, update, parameters, slots, tile);
            add(parameters, update);
            start = end;
        }
    }

    /// One stage of an update: the whole-model transform that it begins with (but for the first stage) and those up to the
    /// next one. `norms` are those of the arrays, from the sums that all owners took after the stage before.
    ///
    /// Returns whether it was the last stage, which adds the update to the parameters.
    pub(super) fn stage(
        &self,
        stage: usize,
        moment: &Moment,
        blocks: &ArrayBlocks,
        norms: &[ArrayNorms],
        cut: &mut Cut<'_>,
    ) -> bool {
        self.check_lengths(cut.parameters, cut.update, cut.slots);
        let first = if stage == 0 {
            0
        } else {
            self.rounds[stage - 1]
        };
        let next = self.rounds.get(stage).copied();
        let which = first..next.unwrap_or(self.transforms.len());
        let mut prepared = self.prepare(moment);
        let whole = 0..cut.update.len();
        if stage == 0 {
            self.run(which, &prepared, cut, whole, next.is_none());
        } else {
            for (array, part) in blocks.arrays_of(cut.start..cut.start + cut.update.len()) {
                prepared[first] = self.transforms[first].prepare_array(moment, &norms[array]);
                self.run(which.clone(), &prepared, cut, part, next.is_none());
            }
        }
        next.is_none()
    }

    /// The sums of the squares of the cut's blocks after a stage, each block's one after the other.
    pub(super) fn measure(&self, stage: usize, blocks: &ArrayBlocks, cut: &Cut<'_>) -> Vec<f64> {
        let width = self.sums_per_block(stage);
        let range = cut.start..cut.start + cut.update.len();
        let mut sums = vec![0.0; width * blocks.within(range.clone()).len()];
        blocks.sum_squares(range.clone(), cut.update, &mut sums, width, 0);
        if width > 1 {
            blocks.sum_squares(range, cut.parameters, &mut sums, width, 1);
        }
        sums
    }

    pub(super) fn prepare(&self, moment: &Moment) -> Prepared {
        let mut prepared = Prepared::default();
        for (prepared, transform) in prepared.iter_mut().zip(&self.transforms) {
            *prepared = transform.prepare(moment);
        }
        prepared
    }

    /// Some of the transforms over a part of a cut, tile by tile.
    fn run(
        &self,
        which: Range<usize>,
        prepared: &Prepared,
        cut: &mut Cut<'_>,
        part: Range<usize>,
        last: bool,
    ) {
        if which.is_empty() && !last {
            return;
        }
        let mut start = part.start;
        while start < part.end {
            let tile = start..part.end.min(start + TILE);
            let update = &mut cut.update[tile.clone()];
            let parameters = &mut cut.parameters[tile.clone()];
            self.apply(
                which.clone(),
                prepared,
                update,
                parameters,
                cut.slots,
                tile.clone(),
            );
            if last {
                add(parameters, update);
            }
            start = tile.end;
        }
    }

    /// Some of the transforms on one tile, which lies at `tile` in the slots.
    fn apply(
        &self,
        which: Range<usize>,
        prepared: &Prepared,
        update: &mut [f32],
        parameters: &[f32],
        slots: &mut [Vec<f32>],
        tile: Range<usize>,
    ) {
        let mut rest = slots;
        for (position, transform) in self.transforms[..which.end].iter().enumerate() {
            let count = transform.slot_names().len();
            let (mine, others) = rest.split_at_mut(count);
            rest = others;
            if position < which.start {
                continue;
            }
            let mut tiles: [&mut [f32]; SLOTS_MAX] = std::array::from_fn(|_| Default::default());
            for (of_tile, slot) in tiles.iter_mut().zip(mine.iter_mut()) {
                *of_tile = &mut slot[tile.clone()];
            }
            transform.apply(prepared[position], update, parameters, &mut tiles[..count]);
        }
    }

    fn check_lengths(&self, parameters: &[f32], gradient: &[f32], slots: &[Vec<f32>]) {
        let slot_counts = self
            .transforms
            .iter()
            .map(|transform| transform.slot_names().len());
        assert!(
            gradient.len() == parameters.len(),
            "a gradient is as long as its parameters"
        );
        assert!(
            slots.len() == slot_counts.sum::<usize>()
                && slots.iter().all(|slot| slot.len() == parameters.len()),
            "slots are as long as their parameters"
        );
    }
}
