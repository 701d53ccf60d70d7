//! Which lane reads which rows, and in which order.
//!
//! Pure: a plan is a function of the row groups, the seed, the epoch, the batch size and the number of lanes.
//! It knows no servers, no threads and no clock, so every server works out the same plan for itself.
//!
//! Every row is met exactly once per epoch, whatever the sizes:
//! - rows kept in memory: one permutation of all rows; minibatch `s` is its slice `[s B, (s + 1) B)`,
//!   cut into `lanes` contiguous parts;
//! - rows read in windows: row groups in shuffled order are laid end to end and cut into `lanes` contiguous
//!   stretches, each exactly as long as its lane will need; a lane meets its rows of a row group in shuffled order,
//!   a window of them at a time, and then those of the next row group. How many rows a window has changes nothing
//!   in the order.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::FrameError;
use crate::support::random::{Purpose, RandomKey, RandomStream};

/// Most lanes of a job: a minibatch of 8,192 rows still leaves each 32.
pub const LANES_MAX: u32 = 256;

/// Most lanes chosen by default.
const DEFAULT_LANES_MAX: u32 = 16;

/// Rows that a lane should at least have: below this a product of matrices spends its time on overhead.
const DEFAULT_LANE_ROWS_MIN: u32 = 32;

/// What a plan depends on, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanSettings {
    /// Rows of every row group, in the order of the dataset version.
    pub row_groups: Vec<u64>,
    pub seed: u64,
    pub batch_size: u32,
    pub lanes: u32,
    /// A new order every epoch; otherwise the same order each time.
    pub shuffle: bool,
    /// Most rows of a window.
    pub window_rows: u64,
}

/// The plan of a job's rows. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DataPlan {
    settings: Arc<PlanSettings>,
    rows: u64,
}

/// Rows of one row group that a lane decodes together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    pub row_group: usize,
    /// Numbers within the row group, in the order in which the rows are met.
    pub rows: Vec<u32>,
}

/// The windows that a lane reads in an epoch, in order; made one at a time, so that an epoch of any length takes
/// the memory of one row group's numbers.
#[derive(Debug)]
pub struct Windows {
    plan: DataPlan,
    epoch: u64,
    lane: u32,
    stretch: Range<u64>,
    /// Row groups that are still to come, in the epoch's order, and where the first of them begins, laid end to end.
    row_groups: std::vec::IntoIter<usize>,
    start: u64,
    /// Row groups that this lane has begun.
    begun: u64,
    row_group: usize,
    /// Rows of the row group under way that are still to come.
    rows: std::vec::IntoIter<u32>,
}

impl DataPlan {
    /// A plan for these settings. Batch size and lanes must be positive.
    pub fn new(settings: PlanSettings) -> Self {
        assert!(
            settings.batch_size > 0 && settings.lanes > 0,
            "a plan needs rows per minibatch and lanes"
        );
        let rows = settings.row_groups.iter().sum();
        Self {
            settings: Arc::new(settings),
            rows,
        }
    }

    /// Rows of an epoch.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Minibatches of an epoch; the last one may be ragged.
    pub fn steps(&self) -> u64 {
        self.rows.div_ceil(u64::from(self.settings.batch_size))
    }

    /// Rows of minibatch `step` as positions of the epoch's order.
    pub fn minibatch(&self, step: u64) -> Range<u64> {
        let batch_size = u64::from(self.settings.batch_size);
        (step * batch_size).min(self.rows)..((step + 1) * batch_size).min(self.rows)
    }

    /// A lane's part of minibatch `step`, as positions inside the minibatch.
    pub fn lane_part(&self, step: u64, lane: u32) -> Range<u64> {
        let minibatch = self.minibatch(step);
        split(minibatch.end - minibatch.start, self.settings.lanes, lane)
    }

    /// The order in which an epoch meets the rows, when all of them are in memory: fewer than 2^32.
    pub fn permutation(&self, epoch: u64) -> Result<Vec<u32>, FrameError> {
        let mut order: Vec<u32> = (0..numbered(self.rows)?).collect();
        if self.settings.shuffle {
            shuffle(&mut order, &mut self.stream(epoch, 0, 0, 0));
        }
        Ok(order)
    }

    /// The windows that a lane reads in an epoch, when the rows are not kept in memory. A row group has fewer than
    /// 2^32 rows.
    pub fn windows(&self, epoch: u64, lane: u32) -> Result<Windows, FrameError> {
        for &rows in &self.settings.row_groups {
            numbered(rows)?;
        }
        let mut order: Vec<usize> = (0..self.settings.row_groups.len()).collect();
        if self.settings.shuffle {
            shuffle(&mut order, &mut self.stream(epoch, 0, 0, 1));
        }
        Ok(Windows {
            stretch: self.stretch(lane),
            plan: self.clone(),
            epoch,
            lane,
            row_groups: order.into_iter(),
            start: 0,
            begun: 0,
            row_group: 0,
            rows: Vec::new().into_iter(),
        })
    }

    /// The stretch of the row groups laid end to end that a lane reads: as long as all its parts of minibatches.
    fn stretch(&self, lane: u32) -> Range<u64> {
        let full = self.rows / u64::from(self.settings.batch_size);
        let ragged = self.rows % u64::from(self.settings.batch_size);
        let lanes = self.settings.lanes;
        let before = |lane: u32| {
            full * cut(u64::from(self.settings.batch_size), lanes, lane) + cut(ragged, lanes, lane)
        };
        before(lane)..before(lane + 1)
    }

    fn stream(&self, epoch: u64, step: u64, lane: u32, operation: u32) -> RandomStream {
        RandomKey {
            seed: self.settings.seed,
            epoch,
            step,
            lane,
            operation,
        }
        .stream(Purpose::Shuffle)
    }
}

impl Windows {
    /// Goes on to the lane's rows of the next row group; false when there is none.
    fn begin_row_group(&mut self) -> bool {
        for row_group in self.row_groups.by_ref() {
            let start = self.start;
            let end = start + self.plan.settings.row_groups[row_group];
            self.start = end;
            let taken = self.stretch.start.max(start)..self.stretch.end.min(end);
            if taken.start >= taken.end {
                continue;
            }
            // No row group has 2^32 rows: `DataPlan::windows` looked.
            let mut rows: Vec<u32> =
                ((taken.start - start) as u32..(taken.end - start) as u32).collect();
            if self.plan.settings.shuffle {
                let mut stream = self.plan.stream(self.epoch, self.begun, self.lane, 2);
                shuffle(&mut rows, &mut stream);
            }
            self.begun += 1;
            self.row_group = row_group;
            self.rows = rows.into_iter();
            return true;
        }
        false
    }
}

impl Iterator for Windows {
    type Item = Window;

    fn next(&mut self) -> Option<Window> {
        if self.rows.len() == 0 && !self.begin_row_group() {
            return None;
        }
        let most = usize::try_from(self.plan.settings.window_rows.max(1)).unwrap_or(usize::MAX);
        Some(Window {
            row_group: self.row_group,
            rows: self.rows.by_ref().take(most).collect(),
        })
    }
}

/// One of the two parts that rows are split into for validation: those held out, or those to train on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SplitPart {
    pub seed: u64,
    /// About how many of the rows are held out.
    pub share: f64,
    pub held_out: bool,
}

impl SplitPart {
    /// Whether a row of the source is in this part.
    pub fn takes(&self, row: u64) -> bool {
        is_held_out(self.seed, row, self.share) == self.held_out
    }

    /// The row of the source that is row `place` of this part, which must have that many. Counts from the first row on:
    /// for errors, not for every row.
    pub fn source_row(&self, place: u64) -> u64 {
        let mut row = 0;
        let mut left = place;
        loop {
            if self.takes(row) {
                if left == 0 {
                    return row;
                }
                left -= 1;
            }
            row += 1;
        }
    }
}

/// A count of rows that get numbers of 32 bits.
fn numbered(rows: u64) -> Result<u32, FrameError> {
    u32::try_from(rows).map_err(|_| FrameError::TooManyRows {
        rows,
        limit: u32::MAX,
    })
}

/// The largest power of two up to 16 that leaves a lane at least 32 rows of a minibatch.
pub fn default_lanes(batch_size: u32) -> u32 {
    let wanted = (batch_size / DEFAULT_LANE_ROWS_MIN).clamp(1, DEFAULT_LANES_MAX);
    1 << wanted.ilog2()
}

/// Part `index` of `rows` cut into `parts` contiguous parts whose lengths differ by at most one.
pub fn split(rows: u64, parts: u32, index: u32) -> Range<u64> {
    cut(rows, parts, index)..cut(rows, parts, index + 1)
}

/// Whether a row is held out for validation: a pure rule of seed and row number, true for about `share` of the rows.
pub fn is_held_out(seed: u64, row: u64, share: f64) -> bool {
    // SplitMix64 (Steele et al., 2014) over the seed, then over the row.
    let mix = |value: u64| {
        let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    };
    let drawn = mix(mix(seed) ^ row);
    ((drawn >> 11) as f64 / (1u64 << 53) as f64) < share
}

fn cut(rows: u64, parts: u32, index: u32) -> u64 {
    (u128::from(rows) * u128::from(index) / u128::from(parts)) as u64
}

/// Fisher and Yates' shuffle: every order equally likely.
fn shuffle<T>(items: &mut [T], stream: &mut RandomStream) {
    for last in (1..items.len()).rev() {
        items.swap(last, stream.below(last as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_met_exactly_once_whatever_the_sizes() {
        let mut stream = RandomKey::of(31, 0).stream(Purpose::Test);
        for round in 0..300 {
            let groups = 1 + stream.below(9) as usize;
            let settings = PlanSettings {
                row_groups: (0..groups).map(|_| stream.below(200)).collect(),
                seed: stream.next_u64(),
                batch_size: 1 + stream.below(150) as u32,
                lanes: 1 << stream.below(6),
                shuffle: stream.below(4) > 0,
                window_rows: 1 + stream.below(300),
            };
            let plan = DataPlan::new(settings.clone());
            let epoch = stream.below(5);
            check_cached(&plan, epoch, round);
            check_windows(&plan, &settings, epoch, round);
        }
    }

    fn check_cached(plan: &DataPlan, epoch: u64, round: usize) {
        let order = plan.permutation(epoch).unwrap();
        let mut met = vec![0; plan.rows() as usize];
        for step in 0..plan.steps() {
            let minibatch = plan.minibatch(step);
            assert!(
                minibatch.start < minibatch.end,
                "round {round}: empty minibatch"
            );
            for lane in 0..plan.settings.lanes {
                for position in plan.lane_part(step, lane) {
                    met[order[(minibatch.start + position) as usize] as usize] += 1;
                }
            }
        }
        assert!(
            met.iter().all(|&times| times == 1),
            "seed 31, round {round}"
        );
    }

    fn check_windows(plan: &DataPlan, settings: &PlanSettings, epoch: u64, round: usize) {
        let mut met: Vec<Vec<u32>> = settings
            .row_groups
            .iter()
            .map(|&rows| vec![0; rows as usize])
            .collect();
        for lane in 0..settings.lanes {
            let mut read = 0;
            for window in plan.windows(epoch, lane).unwrap() {
                assert!(!window.rows.is_empty());
                assert!(window.rows.len() as u64 <= settings.window_rows);
                for &row in &window.rows {
                    met[window.row_group][row as usize] += 1;
                }
                read += window.rows.len() as u64;
            }
            let needed: u64 = (0..plan.steps())
                .map(|step| {
                    let part = plan.lane_part(step, lane);
                    part.end - part.start
                })
                .sum();
            assert_eq!(
                read, needed,
                "seed 31, round {round}: lane {lane} reads what it needs"
            );
        }
        assert!(
            met.iter().flatten().all(|&times| times == 1),
            "seed 31, round {round}"
        );
    }

    #[test]
    fn an_epoch_has_its_own_order_and_repeats_it() {
        let plan = |shuffle| {
            DataPlan::new(PlanSettings {
                row_groups: vec![100, 37],
                seed: 5,
                batch_size: 10,
                lanes: 2,
                shuffle,
                window_rows: 50,
            })
        };
        let order = |shuffle, epoch| plan(shuffle).permutation(epoch).unwrap();
        assert_eq!(order(true, 3), order(true, 3));
        assert_ne!(order(true, 3), order(true, 4));
        assert_eq!(order(false, 3), (0..137).collect::<Vec<u32>>());
        let windows = |shuffle, epoch| {
            let windows = plan(shuffle).windows(epoch, 1).unwrap();
            windows.collect::<Vec<Window>>()
        };
        assert_ne!(windows(true, 3), windows(true, 4));
        assert_eq!(windows(false, 3), windows(false, 4));
        assert!(windows(false, 3)[0].rows.is_sorted());
    }

    #[test]
    fn the_order_of_rows_does_not_depend_on_the_size_of_windows() {
        let met = |window_rows| {
            let plan = DataPlan::new(PlanSettings {
                row_groups: vec![100, 37, 211],
                seed: 5,
                batch_size: 10,
                lanes: 2,
                shuffle: true,
                window_rows,
            });
            let windows = plan.windows(3, 1).unwrap();
            let rows = windows.flat_map(|window| {
                let row_group = window.row_group;
                window.rows.into_iter().map(move |row| (row_group, row))
            });
            rows.collect::<Vec<(usize, u32)>>()
        };
        assert_eq!(met(1), met(1_000));
        assert_eq!(met(7), met(1_000));
    }

    #[test]
    fn rows_without_a_number_of_32_bits_are_refused() {
        let plan = DataPlan::new(PlanSettings {
            row_groups: vec![1 << 32],
            seed: 5,
            batch_size: 10,
            lanes: 2,
            shuffle: true,
            window_rows: 50,
        });
        let refused = FrameError::TooManyRows {
            rows: 1 << 32,
            limit: u32::MAX,
        };
        assert_eq!(plan.permutation(0).unwrap_err(), refused);
        assert_eq!(plan.windows(0, 0).unwrap_err(), refused);
    }

    #[test]
    fn a_row_of_a_part_is_found_in_the_source() {
        for held_out in [false, true] {
            let part = SplitPart {
                seed: 7,
                share: 0.3,
                held_out,
            };
            let rows: Vec<u64> = (0..1_000).filter(|&row| part.takes(row)).collect();
            for (place, &row) in (0..).zip(&rows) {
                assert_eq!(part.source_row(place), row);
                assert_eq!(is_held_out(7, row, 0.3), held_out);
            }
        }
    }

    #[test]
    fn lanes_are_chosen_so_that_each_has_32_rows() {
        let chosen: Vec<u32> = [1, 31, 32, 63, 64, 100, 256, 300, 512, 4096]
            .map(default_lanes)
            .to_vec();
        assert_eq!(chosen, [1, 1, 1, 1, 2, 2, 8, 8, 16, 16]);
    }

    #[test]
    fn about_the_asked_share_of_rows_is_held_out_and_always_the_same_ones() {
        let held = |seed| {
            (0..100_000)
                .filter(|&row| is_held_out(seed, row, 0.1))
                .collect::<Vec<u64>>()
        };
        let rows = held(7);
        assert!((9_700..10_300).contains(&rows.len()), "{}", rows.len());
        assert_eq!(rows, held(7));
        let both = held(8).iter().filter(|row| rows.contains(row)).count();
        assert!(
            both < 1_300,
            "seeds 7 and 8 share {both} rows; 1,000 are expected"
        );
    }
}
