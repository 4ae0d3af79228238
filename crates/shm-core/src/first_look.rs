//! When to look for the first time for what another core answers.
//!
//! # The problem
//!
//! Who waits for an answer looks at the line in which it will come. A look before it is written takes the line away from who is about to
//! write it, and costs about as much as the way of a message. A look long after it is time lost as well. The right moment depends on how
//! distant the cores are, on what the other side does before it answers, and on how fast its core is at present: on one
//! machine it wanders by factors within minutes. (A look at once after one's own message costs nothing: its line has not left yet. The first
//! look here is the one after that.)
//!
//! # The rule
//!
//! A waiter pauses a number of times before its first look, and counts the looks in vain before answers that come soon. If there are more
//! than half as many as answers, in two epochs in a row, it pauses once more from then on. 2 cores of a Zen 4 machine, half round trips of 8 bytes, µs, and
//! how many of the first looks were in vain (196 runs on near cores, 26 on distant ones):
//!
//! | pauses | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 8 |
//! |--|--:|--:|--:|--:|--:|--:|--:|--:|
//! | near | 0.041, 0.99 | 0.040, 0.15 | 0.049, 0.02 | 0.061, 0.01 | 0.073 | 0.086 | 0.098 | 0.123 |
//! | distant | 0.173, 1.00 | 0.173, 0.98 | 0.171, 0.75 | 0.165, 0.45 | 0.146, 0.16 | 0.147, 0.10 | 0.157, 0.08 | 0.177, 0.02 |
//!
//! Of the runs with one pause on near cores a fifth were slower than those with two, 0.050 to 0.069: those with more than 0.4 of the first
//! looks in vain. A look in vain between near cores is followed by one or two more, and by about six between distant ones, so the number
//! of all of them says what the early ones cost.
//!
//! Each side makes the other one later by its own pauses, and so lets it look too early: none can find out alone
//! that fewer would do for both. So both try it at the same time, which the numbers of the messages tell: one epoch of
//! 16 is spent with a pause less, and unless looks are early then, it stays at that.

/// Messages, both ways, after which what was counted is looked at: some 20 µs at the fastest.
const EPOCH: u32 = 512;
/// One of so many epochs is a trial. On near cores it costs a third more in it, should it fail: 2 % in all.
const EPOCHS_PER_TRIAL: u32 = 16;
/// More looks in vain were not early: the other side does something else before it answers. Between distant cores it is 5 to 8.
const SOON: u32 = 12;
/// Looks are early if there is more than one in vain to so many answers. With one for each, who receives from any rank, whose looks take longer, did not
/// find out: 64 bytes from any source 0.072 µs, and 0.077 so; 8 bytes and messages from one rank are the same (81 alternating groups, near).
const ANSWERS_PER_LOOK_IN_VAIN: u32 = 2;
/// Beyond what paid anywhere.
const MOST_PAUSES: u32 = 8;
/// What is best on near cores, most of the time; without any pause nothing takes less.
const FEWEST_PAUSES: u32 = 1;

/// How long one waiter pauses before it looks for the answers of one other, and what it has learnt about that.
#[derive(Debug)]
pub struct FirstLook {
    pauses: u32,
    epoch: u32,
    /// Looks of this epoch that were in vain.
    in_vain: u32,
    is_trial: bool,
    /// In the epoch before.
    was_early: bool,
}

impl FirstLook {
    /// Before the first look.
    pub const fn new() -> Self {
        Self { pauses: FEWEST_PAUSES, epoch: 0, in_vain: 0, is_trial: false, was_early: false }
    }

    /// How often to pause before the first look for the answer to message `number`, by the count of both sides.
    #[inline(always)]
    pub fn pauses(&mut self, number: u32) -> u32 {
        if number / EPOCH != self.epoch {
            self.begin_epoch(number / EPOCH);
        }
        self.pauses
    }

    /// The answer has come, after so many looks in vain. Need not be told if there were none.
    #[inline(always)]
    pub fn came_after(&mut self, in_vain: u32) {
        if in_vain <= SOON {
            self.in_vain = self.in_vain.saturating_add(in_vain);
        }
    }

    #[cold]
    #[inline(never)]
    fn begin_epoch(&mut self, epoch: u32) {
        // Every other message is an answer to this side.
        let is_early = self.in_vain > EPOCH / ANSWERS_PER_LOOK_IN_VAIN / 2;
        if is_early && (self.was_early || self.is_trial) {
            self.pauses = (self.pauses + 1).min(MOST_PAUSES);
        }
        self.was_early = is_early && !self.is_trial;
        self.is_trial = epoch.is_multiple_of(EPOCHS_PER_TRIAL) && self.pauses > FEWEST_PAUSES;
        self.pauses -= u32::from(self.is_trial);
        (self.epoch, self.in_vain) = (epoch, 0);
    }
}

impl Default for FirstLook {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Pauses after so many epochs, in which an answer comes when both have paused `needed` times, or the other one more often.
    fn after(epochs: u32, sides: &mut [FirstLook; 2], first: u32, needed: u32) -> [u32; 2] {
        for number in first * EPOCH..(first + epochs) * EPOCH {
            let pauses = [0, 1].map(|side| sides[side].pauses(number));
            for (side, own) in pauses.into_iter().enumerate() {
                let time = needed.max(pauses[1 - side]);
                sides[side].came_after((2 * time.saturating_sub(own)).min(SOON));
            }
        }
        [0, 1].map(|side| sides[side].pauses)
    }

    #[test]
    fn both_sides_find_the_right_moment_and_follow_it() {
        let mut sides = [FirstLook::new(), FirstLook::new()];
        assert_eq!(after(9, &mut sides, 0, 4), [4, 4]);
        assert_eq!(after(6, &mut sides, 9, 2), [4, 4], "nothing is early, and no trial yet");
        assert_eq!(after(40, &mut sides, 15, 2), [2, 2], "each trial finds out that fewer will do");
        assert_eq!(after(40, &mut sides, 55, 0), [FEWEST_PAUSES; 2]);
        assert_eq!(after(40, &mut sides, 95, 100), [MOST_PAUSES; 2]);
    }

    #[test]
    fn both_follow_though_only_one_was_taken_for_early() {
        let mut sides = [FirstLook::new(), FirstLook { pauses: 3, ..FirstLook::new() }];
        assert_eq!(after(79, &mut sides, 1, 1), [1, 1]);
    }

    /// Who looks seldom looks in vain once at most: three answers in four that come too late for it are many.
    #[test]
    fn one_look_in_vain_before_most_answers_is_early() {
        let mut look = FirstLook::new();
        for number in 0..8 * EPOCH {
            look.pauses(number);
            look.came_after(u32::from(number % 8 < 3));
        }
        assert!(look.pauses(8 * EPOCH) > FEWEST_PAUSES);
    }

    #[test]
    fn who_answers_late_or_seldom_teaches_nothing() {
        let mut look = FirstLook::new();
        for number in 0..100 * EPOCH {
            assert!(look.pauses(number) <= FEWEST_PAUSES);
            match number % EPOCH {
                0..10 => look.came_after(SOON),
                _ => look.came_after(SOON + 1),
            }
        }
        assert_eq!(look.pauses(100 * EPOCH), FEWEST_PAUSES);
    }
}
