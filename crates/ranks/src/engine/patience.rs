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
/// Waits without yields after two in a row in which a yield took long (one may be chance): of messages that come each millisecond
/// one in so many is seen a time slice late.
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
        Self {
            cores: cores as u32,
            core_per_rank: ranks <= cores,
            spins_for_others: SPINS_FOR_OTHERS,
            yields: YIELDS,
            waits_without_yields: 0,
            crowded_out: false,
            in_vain: 0,
            waits: 0,
        }
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

    /// Remembers how the yields of a wait went: beside somebody else's busy process each yield takes a time slice.
    #[inline]
    pub(super) fn learn_of_others(&mut self, backoff: &Backoff) {
        if backoff.was_crowded_out() {
            if self.crowded_out {
                self.waits_without_yields = WAITS_WITHOUT_YIELDS;
            }
            self.crowded_out = true;
        } else if backoff.has_ever_yielded() {
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
        in_vain: 0,
        waits: 0,
    };
}

#[cfg(test)]
mod tests {
    use shm_core::Backoff;

    use super::{
        FEWEST_YIELDS, MOST_IN_VAIN, Patience, SPINS, SPINS_FOR_OTHERS, WAITS_PER_TRIAL,
        WAITS_WITHOUT_YIELDS, YIELDS,
    };

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
            // Fewer, should one take long.
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
            // What was waited for did not come, but something else did.
            backoff.reset();
            backoff
        };
        patience.learn_of_others(&crowded_out());
        assert!(yields(&mut patience), "once may be chance");
        patience.learn_of_others(&in_time());
        patience.learn_of_others(&crowded_out());
        assert!(yields(&mut patience), "not twice in a row");
        patience.learn_of_others(&crowded_out());
        for wait in 0..WAITS_WITHOUT_YIELDS {
            assert!(!yields(&mut patience), "{wait}");
            patience.learn_of_others(&Backoff::new(0, 0));
        }
        assert!(yields(&mut patience), "now and then");
        patience.learn_of_others(&crowded_out());
        assert!(!yields(&mut patience), "still");
    }

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
