//! Named, seeded random streams, so that runs repeat on any server.
//!
//! A stream is a pure function of its key: nothing here knows servers, threads or time.
//! The generator is ChaCha8 and its output is the same on every platform.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream is for. Streams of different purposes never meet, whatever their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// First values of parameters; `operation` is the parameter's position in the model.
    Initializer = 1,
    /// Dropout masks; keyed by (epoch, step, lane, operation).
    Dropout = 2,
    /// Row order of an epoch.
    Shuffle = 3,
    /// Tests and benches.
    Test = 4,
    /// Noise added in training; keyed as dropout masks are.
    Noise = 5,
}

/// The numbers that name one stream: never a server, never a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomKey {
    pub seed: u64,
    pub epoch: u64,
    pub step: u64,
    pub lane: u32,
    pub operation: u32,
}

impl RandomKey {
    /// A key that depends on the seed and one number only.
    pub fn of(seed: u64, operation: u32) -> Self {
        RandomKey {
            seed,
            epoch: 0,
            step: 0,
            lane: 0,
            operation,
        }
    }

    /// The stream of this key for one purpose. The 256-bit ChaCha key is the key's own numbers,
    /// so different keys cannot give the same stream.
    pub fn stream(&self, purpose: Purpose) -> RandomStream {
        // Steps and epochs stay far below 2^48 and 2^40: the purpose takes 8 bits of the epoch's word.
        let mut key = [0u8; 32];
        key[0..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&(self.epoch ^ ((purpose as u64) << 56)).to_le_bytes());
        key[16..24].copy_from_slice(&self.step.to_le_bytes());
        key[24..28].copy_from_slice(&self.lane.to_le_bytes());
        key[28..32].copy_from_slice(&self.operation.to_le_bytes());
        RandomStream {
            generator: ChaCha8Rng::from_seed(key),
            spare_normal: None,
        }
    }
}

/// A stream of numbers that repeats whenever its key is the same.
#[derive(Debug, Clone)]
pub struct RandomStream {
    generator: ChaCha8Rng,
    spare_normal: Option<f64>,
}

impl RandomStream {
    /// Fills bytes; the cheapest way to many random bits.
    pub fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.generator.fill_bytes(bytes);
    }

    pub fn next_u32(&mut self) -> u32 {
        self.generator.next_u32()
    }

    pub fn next_u64(&mut self) -> u64 {
        self.generator.next_u64()
    }

    /// A number below `bound`, without bias. `bound` must be positive.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a bound of zero leaves nothing to draw");
        // Rejects the ragged end of the range (Lemire's method without the multiplication's shortcut).
        let ragged = (u64::MAX % bound + 1) % bound;
        loop {
            let drawn = self.generator.next_u64();
            if drawn <= u64::MAX - ragged {
                return drawn % bound;
            }
        }
    }

    /// Uniform in [0, 1) with 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal, by the polar method (Marsaglia, 1964).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare_normal.take() {
            return spare;
        }
        loop {
            let (u, v) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let s = u * u + v * v;
            if s > 0.0 && s < 1.0 {
                let scale = (-2.0 * s.ln() / s).sqrt();
                self.spare_normal = Some(v * scale);
                return u * scale;
            }
        }
    }

    /// Standard normal redrawn until it lies within two deviations, as Keras' truncated normal.
    pub fn truncated_normal(&mut self) -> f64 {
        loop {
            let drawn = self.normal();
            if drawn.abs() <= 2.0 {
                return drawn;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_gives_the_same_stream_and_any_other_key_another() {
        let key = RandomKey {
            seed: 7,
            epoch: 1,
            step: 2,
            lane: 3,
            operation: 4,
        };
        let first = |key: RandomKey, purpose| key.stream(purpose).next_u64();
        assert_eq!(first(key, Purpose::Dropout), first(key, Purpose::Dropout));
        for other in [
            RandomKey { seed: 8, ..key },
            RandomKey { epoch: 2, ..key },
            RandomKey { step: 3, ..key },
            RandomKey { lane: 4, ..key },
            RandomKey {
                operation: 5,
                ..key
            },
        ] {
            assert_ne!(first(key, Purpose::Dropout), first(other, Purpose::Dropout));
        }
        assert_ne!(first(key, Purpose::Dropout), first(key, Purpose::Shuffle));
    }

    #[test]
    fn the_stream_is_pinned_so_that_no_upgrade_moves_it() {
        // ChaCha8 over an all-zero key: first words of the published keystream (3e00ef2f895f40d67f5bb8e81f09a5a1).
        let mut stream = RandomStream {
            generator: ChaCha8Rng::from_seed([0; 32]),
            spare_normal: None,
        };
        let mut bytes = [0u8; 16];
        stream.fill_bytes(&mut bytes);
        assert_eq!(bytes, 0x3e00ef2f895f40d67f5bb8e81f09a5a1u128.to_be_bytes());
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let mut stream = RandomKey::of(11, 0).stream(Purpose::Test);
        let drawn: Vec<f64> = (0..100_000).map(|_| stream.normal()).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / drawn.len() as f64;
        assert!(
            mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02,
            "seed 11: {mean} {variance}"
        );
    }

    #[test]
    fn numbers_below_a_bound_reach_every_value_and_never_the_bound() {
        let mut stream = RandomKey::of(12, 0).stream(Purpose::Test);
        let mut seen = [0usize; 7];
        (0..7000).for_each(|_| seen[stream.below(7) as usize] += 1);
        assert!(seen.iter().all(|&times| times > 800), "seed 12: {seen:?}");
    }
}
