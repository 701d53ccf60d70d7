//! An optimiser at work: the stages of an update of a cut of the flat vector, and what is around them.

use super::average::{MovingAverage, gather, mean_of};
use super::blocks::{ArrayBlocks, ArrayNorms, NORM_BLOCK};
use super::chain::{Chain, Cut};
use super::error::OptimizerError;
use super::rows::RowUpdate;
use super::schedule::Schedule;
use super::spec::{Clip, OptimizerSpec};
use super::transforms::{
    ClipByNorm, ClipByValue, DecayWeights, GradientTransform, Moment, NormOf, Scope,
};
use crate::support::huge_pages::prefer_huge_pages;

/// An optimiser ready to update cuts of the flat vector. Its bits do not depend on the cuts.
///
/// An elementwise one updates any cut by itself ([`Optimizer::update`]). One with norms needs cuts at multiples of
/// [`Optimizer::grid`] and goes by stages: after each but the last all owners exchange their sums.
#[derive(Debug)]
pub struct Optimizer {
    chain: Chain,
    schedule: Schedule,
    /// Those of the chain: after the gathered gradient and before the average, where there are such.
    slots: Vec<(&'static str, f32)>,
    accumulation: Option<u64>,
    average: Option<MovingAverage>,
}

/// What a cut comes to in one stage of an update.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// The sums of the squares of the cut's blocks: those of all blocks in their order make the norms that the next stage
    /// needs ([`Optimizer::norms`]).
    Measured(Vec<f64>),
    /// The parameters are the new ones.
    Done,
}

impl Optimizer {
    pub fn build(spec: &OptimizerSpec) -> Result<Optimizer, OptimizerError> {
        let mut transforms: Vec<Box<dyn GradientTransform>> = Vec::new();
        match spec.clip {
            None => {}
            Some(Clip::Value(limit)) => transforms.push(Box::new(ClipByValue {
                limit: limit as f32,
            })),
            Some(Clip::Norm(limit)) => transforms.push(Box::new(ClipByNorm {
                limit,
                of: NormOf::EachArray,
            })),
            Some(Clip::GlobalNorm(limit)) => transforms.push(Box::new(ClipByNorm {
                limit,
                of: NormOf::AllArrays,
            })),
        }
        let decay = spec.weight_decay.unwrap_or(0.0);
        transforms.extend((spec.recipe.transforms)(&spec.values, decay));
        if decay > 0.0 {
            let decay = decay as f32;
            transforms.push(Box::new(DecayWeights { decay }));
        }
        let chain = Chain::new(transforms);
        Ok(Optimizer {
            slots: chain.slots(),
            chain,
            schedule: spec.schedule.clone(),
            accumulation: spec.accumulation,
            average: spec.average,
        })
    }

    /// State vectors per parameter vector, each as long as the parameters.
    pub fn slots(&self) -> usize {
        let around = [self.accumulation.is_some(), self.average.is_some()];
        self.slots.len() + around.iter().filter(|kept| **kept).count()
    }

    /// The state of so many parameters before the first update.
    pub fn first_slots(&self, parameters: usize) -> Vec<Vec<f32>> {
        let gathered = self.accumulation.map(|_| 0.0);
        let average = self.average.map(|_| 0.0);
        let starts = self.slots.iter().map(|(_, start)| *start);
        let starts = gathered.into_iter().chain(starts).chain(average);
        starts.map(|start| vec![start; parameters]).collect()
    }

    /// The same for so many numbers of a table of which a step meets a few rows.
    pub fn first_row_slots(&self, numbers: usize) -> Vec<Vec<f32>> {
        let starts = self.slots.iter().map(|(_, start)| *start);
        let slot = |start: f32| {
            let mut slot = vec![0.0; numbers];
            prefer_huge_pages(&slot);
            // Memory of zeros is not touched before it is needed.
            if start.to_bits() != 0 {
                slot.fill(start);
            }
            slot
        };
        starts.map(slot).collect()
    }

    /// Whether an update needs more than the numbers of the cut itself.
    pub fn scope(&self) -> Scope {
        self.chain.scope()
    }

    /// Cuts of the flat vector must lie at multiples of so many numbers, or at its ends.
    pub fn grid(&self) -> usize {
        match self.scope() {
            Scope::Elementwise => 1,
            Scope::WholeModel => NORM_BLOCK,
        }
    }

    /// How often the owners of cuts must exchange sums at a step: 0 for an elementwise optimiser, and where a gradient is
    /// only gathered.
    pub fn rounds(&self, step: u64) -> usize {
        if self.updates_at(step) {
            self.chain.rounds()
        } else {
            0
        }
    }

    /// Sums per block in the exchange that follows a stage.
    pub fn sums_per_block(&self, stage: usize) -> usize {
        self.chain.sums_per_block(stage)
    }

    /// The norms for the next stage, from the sums of all blocks in their order, taken after `stage`.
    pub fn norms(&self, stage: usize, blocks: &ArrayBlocks, sums: &[f64]) -> Vec<ArrayNorms> {
        blocks.norms(sums, self.sums_per_block(stage))
    }

    /// `step` counts from 1 over the whole job, `epoch` from 0.
    pub fn learning_rate(&self, step: u64, epoch: u64) -> f32 {
        self.schedule.at(step, epoch)
    }

    /// One step of a cut of the vector, where `rounds(step)` is 0; `step` counts from 1.
    ///
    /// Panics when gradient or slots are not as long as the parameters, there are not `slots()` of them, or norms are needed.
    pub fn update(
        &self,
        step: u64,
        learning_rate: f32,
        parameters: &mut [f32],
        gradient: &[f32],
        slots: &mut [Vec<f32>],
    ) {
        let moment = self.moment(step, learning_rate);
        let (gathered, of_chain, average) = self.parts(slots);
        match (gathered, self.accumulation) {
            (Some(gathered), Some(steps)) if self.updates_at(step) => {
                mean_of(steps as f32, gradient, gathered);
                self.chain.update(&moment, parameters, gathered, of_chain);
                gathered.fill(0.0);
            }
            (Some(gathered), _) => gather(gradient, gathered),
            (None, _) => self.chain.update(&moment, parameters, gradient, of_chain),
        }
        self.follow(step, parameters, average);
    }

    /// What a step does to the rows of a table with sparse gradients; `step` counts from 1.
    ///
    /// Panics when `OptimizerSpec::check_sparse` refuses the optimiser.
    pub fn row_update(&self, step: u64, learning_rate: f32) -> RowUpdate<'_> {
        assert!(
            self.accumulation.is_none() && self.average.is_none(),
            "rows are neither gathered nor averaged"
        );
        RowUpdate::new(&self.chain, &self.moment(step, learning_rate))
    }

    /// One stage of a step of a cut, from 0 to `rounds(step)`, where that is not 0; `norms` come from the stage before.
    ///
    /// Panics as `update` does, and when the cut does not lie on the grid or `norms` are not those of all arrays.
    pub fn stage(
        &self,
        stage: usize,
        step: u64,
        learning_rate: f32,
        blocks: &ArrayBlocks,
        norms: &[ArrayNorms],
        cut: Cut<'_>,
    ) -> Stage {
        let moment = self.moment(step, learning_rate);
        let (gathered, of_chain, average) = self.parts(cut.slots);
        let mut inner = Cut {
            start: cut.start,
            parameters: cut.parameters,
            update: cut.update,
            slots: of_chain,
        };
        if stage == 0
            && let (Some(gathered), Some(steps)) = (gathered, self.accumulation)
        {
            mean_of(steps as f32, inner.update, gathered);
            inner.update.copy_from_slice(gathered);
            gathered.fill(0.0);
        }
        if !self.chain.stage(stage, &moment, blocks, norms, &mut inner) {
            return Stage::Measured(self.chain.measure(stage, blocks, &inner));
        }
        self.follow(step, inner.parameters, average);
        Stage::Done
    }

    /// Whether the weights are averaged: then the averages are what is validated and kept.
    pub fn averages(&self) -> bool {
        self.average.is_some()
    }

    /// Changes the places of the weights of a cut and their averages. Nothing without averages.
    pub fn swap_averages(&self, parameters: &mut [f32], slots: &mut [Vec<f32>]) {
        if let (_, _, Some(average)) = self.parts(slots) {
            parameters.swap_with_slice(average);
        }
    }

    /// Whether a step makes an update, or only adds its gradient to what is gathered.
    fn updates_at(&self, step: u64) -> bool {
        self.accumulation
            .is_none_or(|steps| step.is_multiple_of(steps))
    }

    /// Updates that are over before a step, as Keras counts its iterations.
    fn updates_before(&self, step: u64) -> u64 {
        step.saturating_sub(1) / self.accumulation.unwrap_or(1)
    }

    fn moment(&self, step: u64, learning_rate: f32) -> Moment {
        Moment {
            step: self.updates_before(step) + 1,
            learning_rate,
        }
    }

    fn follow(&self, step: u64, parameters: &mut [f32], average: Option<&mut [f32]>) {
        if let (Some(rule), Some(average)) = (&self.average, average) {
            rule.follow(self.updates_before(step), parameters, average);
        }
    }

    /// The gathered gradient, the chain's slots, the average.
    fn parts<'a>(
        &self,
        slots: &'a mut [Vec<f32>],
    ) -> (
        Option<&'a mut [f32]>,
        &'a mut [Vec<f32>],
        Option<&'a mut [f32]>,
    ) {
        assert!(slots.len() == self.slots(), "an optimiser has its slots");
        let (gathered, rest) = slots.split_at_mut(usize::from(self.accumulation.is_some()));
        let (of_chain, average) = rest.split_at_mut(self.slots.len());
        (
            gathered.first_mut().map(Vec::as_mut_slice),
            of_chain,
            average.first_mut().map(Vec::as_mut_slice),
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::recipes::{RECIPES, Setting};
    use super::*;
    use crate::tensor::kernels::with_portable_kernels;

    #[test]
    fn only_an_optimizer_with_norms_exchanges_sums_and_only_where_it_updates() {
        let rounds = |description: Value| {
            let spec = OptimizerSpec::from_json(&description).unwrap();
            let optimizer = Optimizer::build(&spec).unwrap();
            assert_eq!(optimizer.rounds(4) == 0, optimizer.grid() == 1);
            [optimizer.rounds(3), optimizer.rounds(4)]
        };
        for recipe in RECIPES {
            let name = recipe.name;
            let own = usize::from(name == "lamb" || name == "lars");
            assert_eq!(rounds(json!({"name": name, "clipvalue": 1})), [own, own]);
            assert_eq!(
                rounds(json!({"name": name, "clipnorm": 1, "gradient_accumulation_steps": 2})),
                [0, own + 1],
                "{name}"
            );
        }
    }

    #[test]
    fn any_cut_on_the_grid_gives_the_same_bits_where_norms_are_needed() {
        for recipe in RECIPES {
            for options in [
                json!({"clipnorm": 0.5}),
                json!({"global_clipnorm": 0.5, "gradient_accumulation_steps": 2, "use_ema": true}),
                json!({"use_ema": true, "ema_momentum": 0.5, "ema_overwrite_frequency": 3}),
            ] {
                let mut description = json!({"name": recipe.name});
                let given = options.as_object().unwrap().clone();
                description.as_object_mut().unwrap().extend(given);
                let optimizer =
                    Optimizer::build(&OptimizerSpec::from_json(&description).unwrap()).unwrap();
                let whole = train_in_stages(&optimizer, &[3001]);
                for cuts in [&[1024, 1977][..], &[0, 2048, 953, 0], &[1024, 1024, 953]] {
                    let found = train_in_stages(&optimizer, cuts);
                    assert_eq!(found, whole, "{description} {cuts:?}");
                }
                let portable = with_portable_kernels(|| train_in_stages(&optimizer, &[3001]));
                assert_eq!(portable, whole, "{description}");
            }
        }
    }

    /// Three steps of 3001 parameters in four arrays, cut among owners that exchange their sums.
    fn train_in_stages(optimizer: &Optimizer, cuts: &[usize]) -> Vec<u32> {
        let blocks = ArrayBlocks::new([7, 1500, 1490, 4]);
        let (mut parameters, gradients) = numbers();
        let starts: Vec<usize> = cuts
            .iter()
            .scan(0, |end, cut| Some(std::mem::replace(end, *end + cut)))
            .collect();
        let mut slots: Vec<_> = cuts.iter().map(|&cut| optimizer.first_slots(cut)).collect();
        for (step, mut gradient) in (1..).zip(gradients) {
            let rounds = optimizer.rounds(step);
            let mut norms = Vec::new();
            for stage in 0..=rounds {
                let mut sums = Vec::new();
                for ((&start, &cut), slots) in starts.iter().zip(cuts).zip(&mut slots) {
                    let range = start..start + cut;
                    let (parameters, update) =
                        (&mut parameters[range.clone()], &mut gradient[range]);
                    if rounds == 0 {
                        optimizer.update(step, 0.01, parameters, update, slots);
                        continue;
                    }
                    let cut = Cut {
                        start,
                        parameters,
                        update,
                        slots,
                    };
                    match optimizer.stage(stage, step, 0.01, &blocks, &norms, cut) {
                        Stage::Measured(own) => sums.extend(own),
                        Stage::Done => assert_eq!(stage, rounds),
                    }
                }
                if stage < rounds {
                    norms = optimizer.norms(stage, &blocks, &sums);
                }
            }
        }
        parameters.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn any_cut_of_the_vector_gives_the_same_bits() {
        for recipe in RECIPES {
            let name = recipe.name;
            let mut description = json!({"name": name, "clipvalue": 0.5});
            for setting in recipe.settings {
                match *setting {
                    Setting::Flag(flag) => description[flag] = json!(true),
                    Setting::Number("momentum", ..) => description["momentum"] = json!(0.9),
                    Setting::Number(..) => {}
                }
            }
            let optimizer =
                Optimizer::build(&OptimizerSpec::from_json(&description).unwrap()).unwrap();
            if optimizer.scope() == Scope::WholeModel {
                continue;
            }
            let whole = train(&optimizer, &[3001]);
            assert_eq!(train(&optimizer, &[1, 15, 2000, 985]), whole, "{name}");
            assert_eq!(
                train(
                    &optimizer,
                    &[513; 5].iter().copied().chain([436]).collect::<Vec<_>>()
                ),
                whole,
                "{name}"
            );
        }
    }

    /// Three updates of 3001 parameters, each cut updated on its own.
    fn train(optimizer: &Optimizer, cuts: &[usize]) -> Vec<u32> {
        let (mut parameters, gradients) = numbers();
        let mut start = 0;
        for &cut in cuts {
            let range = start..start + cut;
            let mut slots = optimizer.first_slots(cut);
            for (step, gradient) in (1..).zip(&gradients) {
                optimizer.update(
                    step,
                    0.01,
                    &mut parameters[range.clone()],
                    &gradient[range.clone()],
                    &mut slots,
                );
            }
            start += cut;
        }
        assert_eq!(start, 3001);
        parameters.iter().map(|value| value.to_bits()).collect()
    }

    /// 3001 parameters and three gradients without pattern enough: optim knows no random streams.
    fn numbers() -> (Vec<f32>, [Vec<f32>; 3]) {
        let mut next = 0u32;
        let mut numbers = || -> Vec<f32> {
            let drawn = (0..3001).map(|_| {
                next += 1;
                (next as f32 * 12.9898).sin()
            });
            drawn.collect()
        };
        (numbers(), [numbers(), numbers(), numbers()])
    }
}
