//! Composition: transforms one after the other, each tile passing through all of them while it is in the cache.

use super::transforms::{GradientTransform, Moment, SLOTS_MAX, Scope, add};

/// Numbers per tile: 2 KiB, so that a tile of everything an optimiser touches fits the first-level cache.
const TILE: usize = 512;
/// Most transforms of one chain.
pub const TRANSFORMS_MAX: usize = 8;

/// Transforms in order. What comes out of the last is added to the parameters.
#[derive(Debug)]
pub struct Chain {
    transforms: Vec<Box<dyn GradientTransform>>,
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
        Chain { transforms }
    }

    pub fn scope(&self) -> Scope {
        let whole = self
            .transforms
            .iter()
            .any(|transform| transform.scope() == Scope::WholeModel);
        if whole {
            Scope::WholeModel
        } else {
            Scope::Elementwise
        }
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

    /// One update of a cut of the vector. Panics when a slice has another length than the parameters or a slot is missing.
    pub fn update(
        &self,
        moment: &Moment,
        parameters: &mut [f32],
        gradient: &[f32],
        slots: &mut [Vec<f32>],
    ) {
        let slot_count: usize = self
            .transforms
            .iter()
            .map(|transform| transform.slot_names().len())
            .sum();
        assert!(
            gradient.len() == parameters.len(),
            "a gradient is as long as its parameters"
        );
        assert!(
            slots.len() == slot_count && slots.iter().all(|slot| slot.len() == parameters.len()),
            "slots are as long as their parameters"
        );
        let mut prepared = [[0.0f32; 4]; TRANSFORMS_MAX];
        for (prepared, transform) in prepared.iter_mut().zip(&self.transforms) {
            *prepared = transform.prepare(moment);
        }
        let mut update = [0.0f32; TILE];
        let mut start = 0;
        while start < parameters.len() {
            let end = parameters.len().min(start + TILE);
            let update = &mut update[..end - start];
            update.copy_from_slice(&gradient[start..end]);
            let mut rest = &mut *slots;
            for (transform, prepared) in self.transforms.iter().zip(prepared) {
                let count = transform.slot_names().len();
                let (mine, others) = rest.split_at_mut(count);
                rest = others;
                let mut tiles: [&mut [f32]; SLOTS_MAX] =
                    std::array::from_fn(|_| Default::default());
                for (tile, slot) in tiles.iter_mut().zip(mine.iter_mut()) {
                    *tile = &mut slot[start..end];
                }
                transform.apply(
                    prepared,
                    update,
                    &parameters[start..end],
                    &mut tiles[..count],
                );
            }
            add(&mut parameters[start..end], update);
            start = end;
        }
    }
}
