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
/// Waits without yields after two in a row in which a yield took long (once may be chance: the timer ticks while one yields for a
/// microsecond): of messages that come each millisecond one in so many is seen a time slice late.
const WAITS_WITHOUT_YIELDS: u32 = 32;

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
    /// Waits that are to do without yields, since somebody else uses the processor; whether the last wait with a yield showed that.
    waits_without_yields: u32,
    crowded_out: bool,
}

impl Patience {
    pub(super) fn new(ranks: usize, cores: usize) -> Self {
        Self {
            cores: cores as u32,
            core_per_rank: ranks <= cores,
            spins_for_others: SPINS_FOR_OTHERS,
            yields: YIELDS,
            waits_without_yields: 0,
            crowded_out: false,
        }
    }

    /// How often to look before the first yield, when `awake` ranks do not sleep: what those do is not known, so each is
    /// taken to need a core.
    #[inline]
    pub(super) fn spins(&self, awake: impl FnOnce() -> u32) -> u32 {
        if self.core_per_rank || awake() <= self.cores { SPINS } else { 0 }
    }

    /// How long to look and to yield before parking, when `awake` ranks do not sleep.
    pub(super) fn backoff(&mut self, awake: u32) -> Backoff {
        let yields = (self.yields / awake.max(1)).max(FEWEST_YIELDS);
        match self.spins(|| awake) {
            0 => Backoff::sharing(self.spins_for_others, yields),
            spins if self.waits_without_yields == 0 => Backoff::new(spins, yields),
            spins => {
                self.waits_without_yields -= 1;
                Backoff::new(spins, 0)
            }
        }
    }

    /// Remembers how a wait went: beside somebody else's busy process each yield takes a time slice.
    #[inline]
    pub(super) fn learn(&mut self, backoff: &Backoff) {
        if backoff.was_crowded_out() {
            if self.crowded_out {
                self.waits_without_yields = WAITS_WITHOUT_YIELDS;
            }
            self.crowded_out = true;
        } else if backoff.has_yielded() {
            self.crowded_out = false;
        }
    }

    /// Of a rank beside which nobody runs whose turn it could be: in a test, all ranks may be one thread.
    #[cfg(any(test, fuzzing))]
    pub(super) fn alone(self) -> Self {
        Self { yields: 0, spins_for_others: 0, ..self }
    }

    /// Nothing comes while this rank has the turn.
    pub(super) const NONE: Self = Self {
        cores: 0,
        core_per_rank: false,
        spins_for_others: 0,
        yields: 0,
        waits_without_yields: 0,
        crowded_out: false,
    };
}

#[cfg(test)]
mod tests {
    use shm_core::Backoff;

    use super::{FEWEST_YIELDS, Patience, SPINS, SPINS_FOR_OTHERS, WAITS_WITHOUT_YIELDS, YIELDS};

    /// How often one looks before the first yield, and what one does in all before one parks.
    fn moments_of(mut backoff: Backoff) -> (u32, u32) {
        let (mut before, mut moments) = (0, 0);
        while backoff.snooze() {
            moments += 1;
            before += u32::from(!backoff.has_yielded());
        }
        (before, moments)
    }

    /// After a wait in which a yield took long, as one of very many does.
    fn crowded_out() -> Backoff {
        let mut backoff = Backoff::new(0, u32::MAX);
        while backoff.snooze() {}
        backoff
    }

    #[test]
    fn who_shares_a_processor_looks_for_a_moment_before_each_yield() {
        let mut patience = Patience::new(8, 2);
        let moments = moments_of(patience.backoff(3));
        assert_eq!(moments, (SPINS_FOR_OTHERS, SPINS_FOR_OTHERS + (SPINS_FOR_OTHERS + 1) * (YIELDS / 3)));
        for (mut patience, awake) in [(patience, 2), (Patience::new(2, 2), 3)] {
            let (before, moments) = moments_of(patience.backoff(awake));
            assert_eq!(before, SPINS);
            // Fewer, should the timer tick.
            assert!(moments > SPINS && moments <= SPINS + YIELDS / awake, "{moments}");
        }
    }

    #[test]
    fn who_is_alone_and_who_has_the_turn_do_not_look() {
        assert_eq!(moments_of(Patience::new(8, 2).alone().backoff(8)), (0, FEWEST_YIELDS));
        let mut without_turn = Patience::NONE;
        assert_eq!(moments_of(without_turn.backoff(1)), (0, FEWEST_YIELDS));
    }

    #[test]
    fn who_was_crowded_out_twice_does_not_yield_for_a_while() {
        let mut patience = Patience::new(2, 2);
        let yields = |patience: &mut Patience| moments_of(patience.backoff(2)).1 > SPINS;
        let in_time = || {
            let mut backoff = Backoff::sharing(0, 1);
            assert!(backoff.snooze());
            backoff
        };
        patience.learn(&crowded_out());
        assert!(yields(&mut patience), "once may be chance");
        patience.learn(&in_time());
        patience.learn(&crowded_out());
        assert!(yields(&mut patience), "not twice in a row");
        patience.learn(&crowded_out());
        for wait in 0..WAITS_WITHOUT_YIELDS {
            assert!(!yields(&mut patience), "{wait}");
            patience.learn(&Backoff::new(0, 0));
        }
        assert!(yields(&mut patience), "now and then");
        patience.learn(&crowded_out());
        assert!(!yields(&mut patience), "still");
    }
}
