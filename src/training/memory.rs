//! How a job's share of the training cache is dealt out: rows kept in memory, or windows of them.
//!
//! Pure: a function of the setting, the lanes and the sizes of the rows, never of the machine, since it decides in
//! which order rows are met and so enters the weights.

use super::feed::WINDOWS_PER_LANE;

/// Parts that a lane's share is cut into: its decoded windows, and twice the bytes of the row group that they are taken
/// from, as stored and as Arrow rows.
const PARTS_PER_LANE: u64 = WINDOWS_PER_LANE + 2;

/// Fewest rows of a window and of a staged row group: below this all time is spent on asking for rows. A share too
/// small for them is exceeded.
pub(crate) const WINDOW_ROWS_MIN: u64 = 64;

/// Besides its decoded values a row kept in memory has a number in the epoch's order, and for a moment in the next one's.
const ORDER_BYTES: u64 = 8;

/// The rows to train on, or those to validate on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side {
    pub(crate) rows: u64,
    /// Bytes of one decoded row.
    pub(crate) row_bytes: u64,
}

/// How one side's rows are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// All of them, decoded.
    Memory,
    /// A lane holds windows of so many rows, and one row group of so many bytes that it takes them from.
    Windows {
        window_rows: u64,
        row_group_bytes: u64,
    },
}

impl Side {
    fn bytes(&self) -> u64 {
        self.rows
            .saturating_mul(self.row_bytes.saturating_add(ORDER_BYTES))
    }

    /// Whether all rows may be kept in so many bytes. Rows kept in memory have numbers of 32 bits.
    fn fits(&self, bytes: u64) -> bool {
        self.bytes() <= bytes && self.rows < u64::from(u32::MAX)
    }

    fn windows(&self, bytes: u64, lanes: u32) -> Room {
        let part = bytes / (u64::from(lanes) * PARTS_PER_LANE);
        Room::Windows {
            window_rows: (part / self.row_bytes.max(1)).max(WINDOW_ROWS_MIN),
            row_group_bytes: part,
        }
    }
}

/// Deals `share` bytes out. Rows to train on come first: they are kept when they leave a quarter to the others.
pub(crate) fn deal(
    share: u64,
    lanes: u32,
    train: Side,
    validation: Option<Side>,
) -> (Room, Option<Room>) {
    let Some(validation) = validation else {
        let room = match train.fits(share) {
            true => Room::Memory,
            false => train.windows(share, lanes),
        };
        return (room, None);
    };
    if train.fits(share) && validation.fits(share - train.bytes()) {
        (Room::Memory, Some(Room::Memory))
    } else if train.fits(share / 4 * 3) {
        let rest = share - train.bytes();
        (Room::Memory, Some(validation.windows(rest, lanes)))
    } else if validation.fits(share / 2) {
        let rest = share - validation.bytes();
        (train.windows(rest, lanes), Some(Room::Memory))
    } else {
        let half = share / 2;
        let windows = |side: Side| side.windows(half, lanes);
        (windows(train), Some(windows(validation)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::random::{Purpose, RandomKey};

    const MIB: u64 = 1 << 20;

    /// Bytes that a side holds on a server with all lanes.
    fn held(side: Side, room: Room, lanes: u64) -> u64 {
        match room {
            Room::Memory => side.bytes(),
            Room::Windows {
                window_rows,
                row_group_bytes,
            } => {
                let windows = WINDOWS_PER_LANE * window_rows * side.row_bytes;
                lanes * (windows + 2 * row_group_bytes)
            }
        }
    }

    #[test]
    fn what_a_job_holds_is_never_more_than_its_share() {
        let mut stream = RandomKey::of(61, 0).stream(Purpose::Test);
        for round in 0..2_000 {
            let mut side = || {
                let magnitude = 1 + stream.below(32);
                Side {
                    rows: 1 + stream.below(1 << magnitude),
                    row_bytes: 4 * (1 + stream.below(300)),
                }
            };
            let (train, validation) = (side(), side());
            let share = (16 + stream.below(1_000)) * MIB;
            let lanes = 1 << stream.below(5);
            for validation in [None, Some(validation)] {
                let (for_train, for_validation) = deal(share, lanes, train, validation);
                let mut sum = held(train, for_train, u64::from(lanes));
                if let (Some(side), Some(room)) = (validation, for_validation) {
                    sum += held(side, room, u64::from(lanes));
                }
                // Windows of the fewest rows may be more than a small share.
                let least = 2 * WINDOWS_PER_LANE * WINDOW_ROWS_MIN * 1_200 * u64::from(lanes);
                assert!(
                    sum <= share.max(least),
                    "seed 61, round {round}: {sum} of {share}"
                );
            }
        }
    }

    #[test]
    fn rows_are_kept_while_they_fit_and_the_rows_to_train_on_come_first() {
        let side = |rows| Side {
            rows,
            row_bytes: 92,
        };
        let kept = |train, validation| {
            let (train, validation) = deal(MIB, 16, side(train), Some(side(validation)));
            (
                train == Room::Memory,
                validation.is_some_and(|room| room == Room::Memory),
            )
        };
        assert_eq!(kept(9_000, 1_000), (true, true));
        assert_eq!(kept(7_000, 9_000), (true, false));
        assert_eq!(kept(10_000, 1_000), (false, true));
        assert_eq!(kept(10_000, 10_000), (false, false));
        assert_eq!(deal(MIB, 16, side(10_485), None).0, Room::Memory);
        let windows = Room::Windows {
            window_rows: 142,
            row_group_bytes: 13_107,
        };
        assert_eq!(deal(MIB, 16, side(10_486), None).0, windows);
    }
}
