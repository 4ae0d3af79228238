//! How long a rank looks before it yields, and yields before it sleeps.

/// Looks before the first yield while ranks <= cores. Longer than a round trip, shorter than what a wake-up of an
/// idle processor costs (about 10 µs, docs/decisions/004-waiting.md).
const SPINS: u32 = 2000;
/// Yields before parking, of all ranks together that do not sleep: each hands the processor round to all others, so with
/// more of them they take longer.
const YIELDS: u32 = 1600;
const FEWEST_YIELDS: u32 = 4;

/// Who may look for a while before it sleeps: whoever leaves no other rank without a processor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    cores: u32,
    /// No more ranks than cores: everybody, always.
    core_per_rank: bool,
    /// Yields of all ranks together that do not sleep.
    yields: u32,
    /// In how many of the last waits this rank looked in vain and had to yield, up to [`MOST_IN_VAIN`].
    in_vain: u32,
    /// Waits in vain beyond those.
    waits: u32,
}

/// So many waits in vain leave [`SPINS`] `>> 7` looks, about a microsecond.
const MOST_IN_VAIN: u32 = 7;
/// One wait of so many looks for its full time all the same: 100 µs among 256 of about 3.
const WAITS_PER_TRIAL: u32 = 256;

impl Patience {
    pub(super) fn new(ranks: usize, cores: usize) -> Self {
        Self { cores: cores as u32, core_per_rank: ranks <= cores, yields: YIELDS, in_vain: 0, waits: 0 }
    }

    /// How often to look before the first yield, when `awake` ranks do not sleep: what those do is not known, so each is
    /// taken to need a core.
    ///
    /// Ranks for which there are cores enough may share one all the same, while another one idles: then who looks keeps
    /// from running whom it waits for. So looks that were in vain are fewer the next time. (Half round trip of 2 ranks of
    /// 128 on 2 cores that the system keeps on one of them.)
    #[inline]
    pub(super) fn spins(&self, awake: impl FnOnce() -> u32) -> u32 {
        match self.waits {
            _ if self.core_per_rank => SPINS,
            _ if awake() > self.cores => 0,
            WAITS_PER_TRIAL => SPINS,
            _ => SPINS >> self.in_vain,
        }
    }

    /// How often to yield before parking, when `awake` ranks do not sleep.
    pub(super) fn yields(&self, awake: u32) -> u32 {
        (self.yields / awake.max(1)).max(FEWEST_YIELDS)
    }

    /// Remembers how a wait in which this rank looked ended: what it waited for came meanwhile, or looking was in vain.
    #[inline]
    pub(super) fn learn(&mut self, in_vain: bool) {
        if self.core_per_rank {
            return;
        }
        let was_trial = self.waits >= WAITS_PER_TRIAL;
        match in_vain {
            false if was_trial => (self.in_vain, self.waits) = (0, 0),
            false => self.in_vain = self.in_vain.saturating_sub(1),
            true if was_trial => self.waits = 0,
            true if self.in_vain == MOST_IN_VAIN => self.waits += 1,
            true => self.in_vain += 1,
        }
    }

    /// Of a rank beside which nobody runs whose turn it could be: in a test, all ranks may be one thread.
    #[cfg(any(test, fuzzing))]
    pub(super) fn alone(self) -> Self {
        Self { yields: 0, ..self }
    }

    /// Nothing comes while this rank has the turn.
    pub(super) const NONE: Self = Self { cores: 0, core_per_rank: false, yields: 0, in_vain: 0, waits: 0 };
}

#[cfg(test)]
mod tests {
    use super::{MOST_IN_VAIN, Patience, SPINS, WAITS_PER_TRIAL};

    fn after_waits_in_vain(waits: u32) -> Patience {
        let mut patience = Patience::new(8, 2);
        (0..waits).for_each(|_| patience.learn(true));
        patience
    }

    #[test]
    fn who_looks_in_vain_looks_less() {
        assert_eq!(after_waits_in_vain(0).spins(|| 2), SPINS);
        assert_eq!(after_waits_in_vain(1).spins(|| 2), SPINS / 2);
        assert_eq!(after_waits_in_vain(100).spins(|| 2), SPINS >> MOST_IN_VAIN);
        assert_eq!(after_waits_in_vain(0).spins(|| 3), 0);
    }

    #[test]
    fn who_looked_in_vain_for_long_tries_again_and_learns() {
        let mut patience = after_waits_in_vain(MOST_IN_VAIN + WAITS_PER_TRIAL);
        assert_eq!(patience.spins(|| 2), SPINS);
        patience.learn(true);
        assert_eq!(patience.spins(|| 2), SPINS >> MOST_IN_VAIN);
        (0..WAITS_PER_TRIAL).for_each(|_| patience.learn(true));
        patience.learn(false);
        assert_eq!(patience.spins(|| 2), SPINS);
        patience.learn(true);
        assert_eq!(patience.spins(|| 2), SPINS / 2);
    }
}
