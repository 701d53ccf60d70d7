//! Where each intermediate value lives: offsets in one block of memory, reused as soon as a value is no longer needed.

/// Every value starts on a cache line: 16 float32 numbers.
pub(super) const ALIGNMENT: usize = 16;

/// Hands out offsets while the plan is made; first fit over what is free, lowest offset first.
#[derive(Debug, Default)]
pub(super) struct ArenaPlanner {
    /// Free stretches as (offset, len), by offset, never touching each other.
    free: Vec<(usize, usize)>,
    peak: usize,
}

impl ArenaPlanner {
    pub(super) fn take(&mut self, len: usize) -> usize {
        let len = padded(len);
        let best = self
            .free
            .iter()
            .enumerate()
            .filter(|(_, stretch)| stretch.1 >= len)
            .min_by_key(|(_, stretch)| (stretch.1, stretch.0));
        if let Some((index, &(offset, free_len))) = best {
            if free_len == len {
                self.free.remove(index);
            } else {
                self.free[index] = (offset + len, free_len - len);
            }
            return offset;
        }
        // A free stretch at the very end is grown rather than left behind.
        if let Some(&(offset, free_len)) = self.free.last()
            && offset + free_len == self.peak
        {
            self.free.pop();
            self.peak = offset.saturating_add(len);
            return offset;
        }
        let offset = self.peak;
        self.peak = self.peak.saturating_add(len);
        offset
    }

    pub(super) fn give_back(&mut self, offset: usize, len: usize) {
        let len = padded(len);
        let place = self.free.partition_point(|stretch| stretch.0 < offset);
        self.free.insert(place, (offset, len));
        if place + 1 < self.free.len() && offset + len == self.free[place + 1].0 {
            self.free[place].1 += self.free[place + 1].1;
            self.free.remove(place + 1);
        }
        if place > 0 && self.free[place - 1].0 + self.free[place - 1].1 == offset {
            self.free[place - 1].1 += self.free[place].1;
            self.free.remove(place);
        }
    }

    /// Numbers needed in all.
    pub(super) fn peak(&self) -> usize {
        self.peak
    }
}

fn padded(len: usize) -> usize {
    len.max(1).div_ceil(ALIGNMENT).saturating_mul(ALIGNMENT)
}

/// A block of float32 numbers that starts on a cache line.
#[derive(Debug)]
pub(super) struct Arena {
    lines: Vec<Line>,
}

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; ALIGNMENT]);

impl Arena {
    pub(super) fn new(len: usize) -> Self {
        Arena {
            lines: vec![Line([0.0; ALIGNMENT]); len.div_ceil(ALIGNMENT)],
        }
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.lines.as_mut_ptr().cast()
    }

    pub(super) fn as_slice(&self) -> &[f32] {
        // SAFETY: lines are contiguous arrays of float32 without padding.
        unsafe {
            std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * ALIGNMENT)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_used_again_and_neighbours_join() {
        let mut planner = ArenaPlanner::default();
        let (a, b, c) = (planner.take(16), planner.take(20), planner.take(16));
        assert_eq!((a, b, c, planner.peak()), (0, 16, 48, 64));
        planner.give_back(a, 16);
        planner.give_back(b, 20);
        assert_eq!(planner.take(48), 0);
        planner.give_back(c, 16);
        assert_eq!((planner.take(32), planner.peak()), (48, 80));
    }
}
