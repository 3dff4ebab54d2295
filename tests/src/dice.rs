//! Randomness that can be repeated: a seed is printed, and the same seed gives the same run.

use std::time::Duration;

/// A small generator (xorshift64*), good enough to choose moments and victims.
pub struct Dice {
    state: u64,
}

impl Dice {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        // The generator stands still at zero, and neighbouring seeds must not begin alike.
        Self { state: (seed ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9) | 1 }
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound
    }

    /// A moment within `longest` from now.
    pub fn moment(&mut self, longest: Duration) -> Duration {
        Duration::from_millis(self.below(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX).max(1)))
    }

    /// One of the choices.
    pub fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let count = u64::try_from(choices.len()).unwrap_or(u64::MAX);
        &choices[usize::try_from(self.below(count)).unwrap_or(0)]
    }
}
