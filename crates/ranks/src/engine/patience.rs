//! How long a rank looks before it yields, and yields before it sleeps.

use shm_core::Backoff;

/// Looks before the first yield while ranks <= cores. Longer than a round trip, shorter than what a wake-up of an
/// idle processor costs (about 10 µs, docs/decisions/004-waiting.md).
const SPINS: u32 = 2000;
/// Looks before each yield where ranks share processors and what is waited for comes from another one
/// (docs/decisions/004-waiting.md).
const SPINS_FOR_OTHERS: u32 = 64;
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
    /// Looks before each yield if there is not a core for each rank that does not sleep.
    spins_for_others: u32,
    /// Yields of all ranks together that do not sleep.
    yields: u32,
}

impl Patience {
    pub(super) fn new(ranks: usize, cores: usize) -> Self {
        Self {
            cores: cores as u32,
            core_per_rank: ranks <= cores,
            spins_for_others: SPINS_FOR_OTHERS,
            yields: YIELDS,
        }
    }

    /// How often to look before the first yield, when `awake` ranks do not sleep: what those do is not known, so each is
    /// taken to need a core.
    #[inline]
    pub(super) fn spins(&self, awake: impl FnOnce() -> u32) -> u32 {
        if self.core_per_rank || awake() <= self.cores { SPINS } else { 0 }
    }

    /// How long to look and to yield before parking, when `awake` ranks do not sleep.
    pub(super) fn backoff(&self, awake: u32) -> Backoff {
        let yields = (self.yields / awake.max(1)).max(FEWEST_YIELDS);
        match self.spins(|| awake) {
            0 => Backoff::new(self.spins_for_others, yields).spinning_between(self.spins_for_others),
            spins => Backoff::new(spins, yields),
        }
    }

    /// Of a rank beside which nobody runs whose turn it could be: in a test, all ranks may be one thread.
    #[cfg(any(test, fuzzing))]
    pub(super) fn alone(self) -> Self {
        Self { yields: 0, spins_for_others: 0, ..self }
    }

    /// Nothing comes while this rank has the turn.
    pub(super) const NONE: Self = Self { cores: 0, core_per_rank: false, spins_for_others: 0, yields: 0 };
}

#[cfg(test)]
mod tests {
    use super::{FEWEST_YIELDS, Patience, SPINS, SPINS_FOR_OTHERS, YIELDS};

    /// How often a rank of 8 on 2 cores looks before its first yield, and what it does in all before it parks.
    fn of(patience: Patience, awake: u32) -> (u32, u32) {
        let mut backoff = patience.backoff(awake);
        let (mut before, mut moments) = (0, 0);
        while backoff.snooze() {
            moments += 1;
            before += u32::from(!backoff.has_yielded());
        }
        (before, moments)
    }

    #[test]
    fn who_shares_a_processor_looks_for_a_moment_before_each_yield() {
        let patience = Patience::new(8, 2);
        assert_eq!(of(patience, 2), (SPINS, SPINS + YIELDS / 2));
        assert_eq!(
            of(patience, 3),
            (SPINS_FOR_OTHERS, SPINS_FOR_OTHERS + (SPINS_FOR_OTHERS + 1) * (YIELDS / 3))
        );
        assert_eq!(of(Patience::new(2, 2), 3), (SPINS, SPINS + YIELDS / 3));
    }

    #[test]
    fn who_is_alone_and_who_has_the_turn_do_not_look() {
        assert_eq!(of(Patience::new(8, 2).alone(), 8), (0, FEWEST_YIELDS));
        assert_eq!(of(Patience::NONE, 1), (0, FEWEST_YIELDS));
    }
}
