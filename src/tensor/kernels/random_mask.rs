//! Random numbers of a step: dropout masks (0 with probability `rate`, else 1 / (1 - rate)) and normal noise.

use crate::support::random::Purpose;
pub use crate::support::random::RandomKey;

/// Random bytes are drawn in blocks of this many, on the stack.
const BLOCK_BYTES: usize = 1024;

/// Fills a mask from the key's dropout stream. 16 random bits per number, so `rate` is met to within 2^-17.
pub fn dropout_mask(key: &RandomKey, rate: f32, out: &mut [f32]) {
    let mut stream = key.stream(Purpose::Dropout);
    let threshold = (f64::from(rate) * 65536.0).round() as u32;
    let kept = 1.0 / (1.0 - rate);
    let mut bytes = [0u8; BLOCK_BYTES];
    for block in out.chunks_mut(BLOCK_BYTES / 2) {
        stream.fill_bytes(&mut bytes);
        for (out, pair) in block.iter_mut().zip(bytes.chunks_exact(2)) {
            let drawn = u32::from(u16::from_le_bytes([pair[0], pair[1]]));
            *out = if drawn < threshold { 0.0 } else { kept };
        }
    }
}

/// Fills with standard normal numbers from the key's noise stream.
pub fn normal_noise(key: &RandomKey, out: &mut [f32]) {
    let mut stream = key.stream(Purpose::Noise);
    for out in out {
        *out = stream.normal() as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_mean_zero_and_variance_one_and_repeats_by_key() {
        let key = RandomKey {
            seed: 5,
            epoch: 0,
            step: 9,
            lane: 1,
            operation: 0,
        };
        let (mut noise, mut again) = (vec![f32::NAN; 100_000], vec![f32::NAN; 100]);
        normal_noise(&key, &mut noise);
        normal_noise(&key, &mut again);
        assert_eq!(again, noise[..100]);
        let mean = noise.iter().map(|&x| f64::from(x)).sum::<f64>() / 1e5;
        let variance = noise.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 1e5;
        assert!(
            mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02,
            "seed 5: {mean} {variance}"
        );
    }

    #[test]
    fn a_mask_drops_at_its_rate_and_repeats_by_key() {
        let key = RandomKey {
            seed: 5,
            epoch: 0,
            step: 9,
            lane: 1,
            operation: 0,
        };
        let mut mask = vec![f32::NAN; 100_001];
        dropout_mask(&key, 0.3, &mut mask);
        let dropped = mask.iter().filter(|&&value| value == 0.0).count() as f64 / mask.len() as f64;
        assert!((dropped - 0.3).abs() < 0.01, "seed 5: {dropped}");
        assert!(mask.iter().all(|&value| value == 0.0 || value == 1.0 / 0.7));
        let mut again = vec![f32::NAN; 1000];
        dropout_mask(&key, 0.3, &mut again);
        assert_eq!(again, mask[..1000]);
        dropout_mask(&RandomKey { lane: 2, ..key }, 0.3, &mut again);
        assert_ne!(again, mask[..1000]);
    }
}
