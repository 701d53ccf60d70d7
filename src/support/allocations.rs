//! For tests alone: what a thread allocates, so that a bound on memory or on work can be checked without a clock.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allocated {
    /// How often the allocator was asked: a measure of work.
    pub count: usize,
    /// Bytes held at once, at most, beyond what was held before.
    pub peak_bytes: usize,
}

/// What this thread allocates while a function runs. Does not nest.
pub fn allocated<T>(run: impl FnOnce() -> T) -> (T, Allocated) {
    COUNT.set(0);
    HELD.set(0);
    PEAK.set(0);
    let value = run();
    let found = Allocated {
        count: COUNT.get(),
        peak_bytes: usize::try_from(PEAK.get()).unwrap_or(0),
    };
    (value, found)
}

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counted for each thread by itself.
struct Counting;

impl Counting {
    fn took(size: usize) {
        COUNT.set(COUNT.get() + 1);
        // A layout's size is at most `isize::MAX`.
        HELD.set(HELD.get() + size as isize);
        PEAK.set(PEAK.get().max(HELD.get()));
    }
}

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::took(layout.size());
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::took(layout.size());
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as isize);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.set(HELD.get() - layout.size() as isize);
        Self::took(size);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn the_most_that_is_held_at_once_is_counted() {
    let (_, found) = allocated(|| {
        for _ in 0..3 {
            drop(std::hint::black_box(vec![1u8; 1000]));
        }
    });
    assert_eq!((found.count, found.peak_bytes), (3, 1000));
}
