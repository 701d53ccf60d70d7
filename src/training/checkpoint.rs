//! What is saved of a job while it trains, when it counts as saved, and what is read back.
//!
//! A checkpoint is taken at the end of an epoch, when the crew is at rest: every worker writes a part, its own share of the
//! optimizer's state, and worker 0 the weights besides. The coordinator commits the manifest once all parts are there. The
//! parts in the order of workers are the whole state, so that any number of workers goes on from those of any other number,
//! to the same bits as if nothing had happened: all else that training depends on is a function of the job and the epoch.
//!
//! Knows no store: what is written goes to a `PartSink`.

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::TrainingError;
use super::job::ResolvedJob;
use super::news::HistoryRow;
use super::prepare::PreparedJob;
use super::step::Crew;
use crate::catalog::{JobId, TrainingRecord};
use crate::optim::PlateauState;
use crate::tensor::archive::{self, NamedArray};

/// Form of manifest and parts.
const FORMAT: u32 = 1;

/// When checkpoints are taken, with every default resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRule {
    /// Epochs between two; the last epoch of a job has one too.
    pub every: u32,
    /// How many are kept: the newest.
    pub keep: u32,
}

impl CheckpointRule {
    /// Whether one is taken when so many epochs are over.
    pub(crate) fn is_due(&self, epochs_over: u32, last: bool) -> bool {
        last || epochs_over.is_multiple_of(self.every)
    }
}

/// Which checkpoint of which job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointReference {
    pub job: JobId,
    pub epoch: u32,
}

/// Where a worker's part goes.
#[async_trait]
pub(crate) trait PartSink: std::fmt::Debug + Send + Sync {
    async fn write(&self, epoch: u32, part: Bytes) -> Result<(), TrainingError>;
}

/// What worker 0 knows at the end of an epoch besides the numbers of the parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// What the scheduled learning rate is multiplied by in the next epoch.
    pub(crate) rate_scale: Exact,
    pub(crate) early_stopping: Option<Watched>,
    pub(crate) plateau: Option<Plateau>,
    pub(crate) row: ExactRow,
    /// That of the best weights so far, where they are kept for the end.
    pub(crate) best_row: Option<ExactRow>,
}

impl Standing {
    /// The learning rate is what the schedule says, and a plateau begins anew.
    pub(crate) fn forget_plateau(&mut self) {
        self.rate_scale = Exact(1.0);
        self.plateau = None;
    }
}

/// What early stopping remembers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Watched {
    pub(crate) best: Option<Exact>,
    pub(crate) waited: u32,
}

/// What a plateau remembers, besides `Standing::rate_scale`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plateau {
    watched: Watched,
    cooling: u32,
}

impl Plateau {
    pub(crate) fn of(state: PlateauState) -> Self {
        Self {
            watched: Watched {
                best: state.best.map(Exact),
                waited: state.waited,
            },
            cooling: state.cooling,
        }
    }

    pub(crate) fn state(&self, rate_scale: f32) -> PlateauState {
        PlateauState {
            best: self.watched.best.map(|best| best.0),
            waited: self.watched.waited,
            cooling: self.cooling,
            scale: rate_scale,
        }
    }
}

/// A number that comes back to the bit: JSON readers may be off by the last one, and JSON has no infinity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Exact(pub(crate) f64);

impl From<Exact> for String {
    fn from(exact: Exact) -> Self {
        exact.0.to_string()
    }
}

impl TryFrom<String> for Exact {
    type Error = std::num::ParseFloatError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

/// A row of history whose numbers come back to the bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExactRow(std::collections::BTreeMap<String, Option<Exact>>);

impl From<&HistoryRow> for ExactRow {
    fn from(row: &HistoryRow) -> Self {
        let values = row.iter();
        Self(
            values
                .map(|(name, value)| (name.clone(), value.map(Exact)))
                .collect(),
        )
    }
}

impl From<&ExactRow> for HistoryRow {
    fn from(row: &ExactRow) -> Self {
        let values = row.0.iter();
        values
            .map(|(name, value)| (name.clone(), value.map(|exact| exact.0)))
            .collect()
    }
}

/// The manifest: everything about a job that its parts do not hold, so that any server can go on with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    format_version: u32,
    code_version: String,
    /// Epochs that are over.
    pub(crate) epoch: u32,
    /// As many parts are there.
    pub(crate) workers: u32,
    /// The model's name.
    pub(crate) name: String,
    pub(crate) job: ResolvedJob,
    pub(crate) record: TrainingRecord,
    parameters: u64,
    source: String,
    dataset_version: Option<i64>,
    pub(crate) standing: Standing,
}

/// What every form of the manifest begins with.
#[derive(Deserialize)]
struct Written {
    format_version: u32,
    #[serde(default)]
    code_version: String,
}

impl Checkpoint {
    pub(crate) fn new(
        name: &str,
        prepared: &PreparedJob,
        epoch: u32,
        workers: usize,
        standing: Standing,
    ) -> Self {
        Self {
            format_version: FORMAT,
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch,
            workers: workers as u32,
            name: name.to_owned(),
            job: prepared.job.clone(),
            record: prepared.record.clone(),
            parameters: prepared.parameters,
            source: prepared.source.clone(),
            dataset_version: prepared.dataset_version,
            standing,
        }
    }

    pub(crate) fn to_bytes(&self) -> Result<Bytes, TrainingError> {
        let text = serde_json::to_vec_pretty(self);
        text.map(Bytes::from)
            .map_err(|error| unreadable("its manifest cannot be written", error))
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, TrainingError> {
        let cannot = |error| unreadable("its manifest cannot be read", error);
        let written: Written = serde_json::from_slice(bytes).map_err(cannot)?;
        if written.format_version != FORMAT {
            let received = format!(
                "{}, written by version {}",
                written.format_version, written.code_version
            );
            return Err(unreadable("its form is not known here", received));
        }
        serde_json::from_slice(bytes).map_err(cannot)
    }

    /// The job as it is prepared to go on.
    pub(crate) fn prepared(&self) -> PreparedJob {
        PreparedJob {
            job: self.job.clone(),
            record: self.record.clone(),
            parameters: self.parameters,
            source: self.source.clone(),
            dataset_version: self.dataset_version,
        }
    }
}

/// A checkpoint in memory: the whole state, whoever wrote it.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) epoch: u32,
    pub(crate) standing: Standing,
    /// Parameters, then statistics.
    pub(crate) values: Vec<f32>,
    /// The best ones so far, where they are kept for the end.
    pub(crate) best: Option<Vec<f32>>,
    /// Of the dense parameters, in their order.
    slots: Vec<Vec<f32>>,
    /// Of each sparse table.
    table_slots: Vec<Vec<Vec<f32>>>,
}

impl Saved {
    /// Joins the parts of all workers, in their order.
    pub(crate) fn join(
        epoch: u32,
        standing: Standing,
        parts: &[Bytes],
    ) -> Result<Self, TrainingError> {
        let mut saved = Self {
            epoch,
            standing,
            values: Vec::new(),
            best: None,
            slots: Vec::new(),
            table_slots: Vec::new(),
        };
        for part in parts {
            let arrays = archive::from_bytes(part)
                .map_err(|error| unreadable("one of its parts cannot be read", error))?;
            for array in arrays {
                saved.take(array)?;
            }
        }
        Ok(saved)
    }

    fn take(&mut self, array: NamedArray) -> Result<(), TrainingError> {
        match Place::read(&array.name) {
            Some(Place::Values) => self.values = array.values,
            Some(Place::Best) => self.best = Some(array.values),
            Some(Place::Slot(slot)) => at(&mut self.slots, slot).extend(array.values),
            Some(Place::TableSlot(table, slot)) => {
                at(at(&mut self.table_slots, table), slot).extend(array.values);
            }
            None => {
                return Err(unreadable(
                    "a part has an array of no known name",
                    array.name,
                ));
            }
        }
        Ok(())
    }
}

/// Where an array of a part belongs, as its name says.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Values,
    Best,
    Slot(usize),
    TableSlot(usize, usize),
}

/// More of them than any optimizer or model has; keeps a name in a part from making memory.
const NUMBER_MAX: usize = 10_000;

impl Place {
    fn read(name: &str) -> Option<Self> {
        let number = |text: &str| {
            let number = text.parse().ok();
            number.filter(|number: &usize| *number < NUMBER_MAX)
        };
        let words: Vec<&str> = name.split('/').collect();
        Some(match words.as_slice() {
            ["values"] => Self::Values,
            ["best"] => Self::Best,
            ["slot", slot] => Self::Slot(number(slot)?),
            ["table", table, slot] => Self::TableSlot(number(table)?, number(slot)?),
            _ => return None,
        })
    }

    fn array(self, values: Vec<f32>) -> NamedArray {
        let name = match self {
            Self::Values => "values".to_owned(),
            Self::Best => "best".to_owned(),
            Self::Slot(slot) => format!("slot/{slot}"),
            Self::TableSlot(table, slot) => format!("table/{table}/{slot}"),
        };
        NamedArray {
            name,
            shape: vec![values.len()],
            values,
        }
    }
}

/// The list's place of a number, made where it is not there.
fn at<T: Default>(list: &mut Vec<T>, number: usize) -> &mut T {
    if list.len() <= number {
        list.resize_with(number + 1, T::default);
    }
    &mut list[number]
}

impl Crew {
    /// This worker's part: its share of the optimizer's state, and on worker 0 all values. Called while the crew is at rest.
    pub(crate) fn part(&self, best: Option<&[f32]>) -> Vec<NamedArray> {
        let share = &self.share;
        let mut slots: Vec<Vec<f32>> = vec![Vec::new(); share.optimizer.slots()];
        let mut table_slots: Vec<Vec<Vec<f32>>> = Vec::new();
        // Threads' ranges ascend.
        for hand in &self.hands {
            let hand = hand.lock();
            for (all, own) in slots.iter_mut().zip(&hand.slots) {
                all.extend_from_slice(own);
            }
            for (table, owned) in hand.tables.iter().enumerate() {
                for (slot, own) in owned.slots().iter().enumerate() {
                    at(at(&mut table_slots, table), slot).extend_from_slice(own);
                }
            }
        }
        let mut arrays = Vec::new();
        if share.worker == 0 {
            arrays.push(Place::Values.array(self.values()));
            arrays.extend(best.map(|best| Place::Best.array(best.to_vec())));
        }
        let dense = slots.into_iter().enumerate();
        arrays.extend(dense.map(|(slot, values)| Place::Slot(slot).array(values)));
        for (table, slots) in table_slots.into_iter().enumerate() {
            let slots = slots.into_iter().enumerate();
            arrays.extend(slots.map(|(slot, values)| Place::TableSlot(table, slot).array(values)));
        }
        arrays
    }

    /// Takes over what was saved: all values, and this worker's share of the optimizer's state. Called before the first step.
    pub(crate) fn restore(&self, saved: &Saved) -> Result<(), TrainingError> {
        let misfit = || unreadable("it", "of a network or optimizer of other sizes");
        let dense = self.share.model.parameter_len() - self.share.model.sparse_len();
        let best_fits = saved
            .best
            .as_ref()
            .is_none_or(|best| best.len() == self.length());
        if saved.values.len() != self.length()
            || !best_fits
            || saved.slots.len() != self.share.optimizer.slots()
            || saved.slots.iter().any(|slot| slot.len() != dense)
        {
            return Err(misfit());
        }
        self.replace_values(&saved.values);
        for hand in &self.hands {
            let hand = &mut *hand.lock();
            let owned = self.share.parameters_of(&hand.owned);
            for (own, all) in hand.slots.iter_mut().zip(&saved.slots) {
                own.copy_from_slice(&all[owned.clone()]);
            }
            for (table, owned) in hand.tables.iter_mut().enumerate() {
                let all = saved.table_slots.get(table).map_or(&[][..], Vec::as_slice);
                owned.restore(all).ok_or_else(misfit)?;
            }
        }
        Ok(())
    }
}

fn unreadable(what: &str, why: impl std::fmt::Display) -> TrainingError {
    TrainingError::BadCheckpoint {
        reason: format!("{what}: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back_to_the_bit() {
        for value in [0.1 + 0.2, 1e-308, f64::MAX, f64::NEG_INFINITY, 2.0 / 3.0] {
            let text = serde_json::to_string(&Exact(value)).unwrap();
            let back: Exact = serde_json::from_str(&text).unwrap();
            assert_eq!(back.0.to_bits(), value.to_bits(), "{text}");
        }
        assert!(serde_json::from_str::<Exact>("\"much\"").is_err());
    }

    #[test]
    fn arrays_go_back_to_the_place_that_their_names_say() {
        for place in [
            Place::Values,
            Place::Best,
            Place::Slot(3),
            Place::TableSlot(1, 0),
        ] {
            assert_eq!(Place::read(&place.array(vec![]).name), Some(place));
        }
        for name in ["", "slot", "slot/x", "slot/-1", "slot/99999999", "table/1"] {
            assert_eq!(Place::read(name), None, "{name}");
        }
    }
}
