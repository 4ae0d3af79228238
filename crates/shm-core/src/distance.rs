//! How far away another core is, and which stores reach it sooner.
//!
//! # The problem
//!
//! Two cores that share a cache hand each other a line in some 40 ns, and a copy written in plain stores is there at
//! the speed of that cache. Where they share none (another socket, another die of the same processor, or a virtual
//! machine whose cores have just been moved apart), each line that one has written is fetched from its cache on its
//! own, and a long copy crosses at 2 to 3 GB/s. Streaming stores send lines to memory instead, from where the other
//! core reads them with all of its prefetching: there that is several times as fast, and between near cores slower.
//! Half round trips between two threads that copy in and out, in µs (2 cores of a Zen 4 machine on different dies):
//!
//! | bytes | plain stores | streaming stores |
//! |--:|--:|--:|
//! | 512 | 0.487 | 0.479 |
//! | 1024 | 0.738 | 0.514 |
//! | 4096 | 2.17 | 0.85 |
//! | 16384 | 7.2 | 1.6 |
//! | 65536 | 24.5 | 4.7 |
//! | 1048576 | 330 | 50 |
//!
//! Which it is cannot be asked for: a virtual machine says what it was configured to say, and moves. So it is measured
//! while messages flow, with loads that are made anyway: of a line that the other has written since.

#[cfg(not(loom))]
use std::hint::select_unpredictable;
#[cfg(not(loom))]
use std::sync::OnceLock;
#[cfg(not(loom))]
use std::time::{Duration, Instant};

#[cfg(not(loom))]
use crate::sync::fence;
use crate::sync::{AtomicU64, Ordering};

/// From this length on streaming stores pay between distant cores: see the table above. But not in cells of a ring, where payload lies
/// behind its header: messages of 1 KiB took 0.745 µs with them, and 0.678 without (54 alternating rounds).
pub const STREAMED_BYTES: usize = 1024;

/// A load that takes longer, besides two looks at the clock (20 to 30 ns), came from a distant core: between dies of the machine above
/// 19 of 20 take 60 to 140 ns, within one die 49 of 50 less than 45.
#[cfg(not(loom))]
const FAR: Duration = Duration::from_nanos(55);

/// A clock that takes longer says nothing about loads: where it is a system call, every core would seem distant.
#[cfg(not(loom))]
const SLOW_CLOCK: Duration = Duration::from_nanos(60);

/// Between distant cores now and then a load is quick all the same, and between near ones one is slow, when somebody else ran in
/// between. So a slow load counts as much as this many quick ones ...
#[cfg(not(loom))]
const SLOW_LOAD: u8 = 3;
/// ... two of them close to each other are a distance ...
#[cfg(not(loom))]
const DISTANT: u8 = 2 * SLOW_LOAD;
/// ... and so many quick ones in a row are none.
#[cfg(not(loom))]
const MOST: u8 = 12;

/// While all loads say the same one in so many is timed: that takes some 30 ns, and what is waited for is seen that much later. 8 bytes
/// took 0.0646 µs with one in 4, and 0.0621 with none. Primes: what is sent makes patterns of looks, of which only some find that the
/// other has gone on. With one in 4 messages of 32 KiB, which take 4 looks for 3, were never found to be for a near core again when
/// the first load had been slow.
#[cfg(not(loom))]
const TIMED_ONE_IN: u8 = 61;
/// While they do not, after one that was of no use.
#[cfg(not(loom))]
const TRIED_ONE_IN: u8 = 5;

/// Read instead of a word that is about to be read with an eye on the clock.
#[cfg(not(loom))]
static NOTHING: AtomicU64 = AtomicU64::new(0);

/// What one core knows of its distance to another; near at first.
#[derive(Debug, Clone, Copy)]
pub struct Distance {
    /// Loads until the next timed one.
    #[cfg(not(loom))]
    untimed: u8,
    /// Slow loads, each counted [`SLOW_LOAD`] times, less quick ones; at most [`MOST`].
    #[cfg(not(loom))]
    slow: u8,
    far: bool,
}

impl Distance {
    /// A core that has been slow for long.
    #[cfg(any(loom, test))]
    pub(crate) const DISTANT: Self = Self {
        #[cfg(not(loom))]
        slow: MOST,
        #[cfg(not(loom))]
        untimed: 0,
        far: true,
    };

    /// Nothing has been measured yet.
    pub const fn new() -> Self {
        Self {
            #[cfg(not(loom))]
            slow: SLOW_LOAD,
            #[cfg(not(loom))]
            untimed: 0,
            far: false,
        }
    }

    /// Whether streaming stores reach the other sooner, for [`STREAMED_BYTES`] and more.
    #[inline]
    pub fn is_far(&self) -> bool {
        self.far
    }

    /// Whether a payload of `length` bytes goes to the other in streaming stores.
    #[inline]
    pub fn streams(&self, length: usize) -> bool {
        self.far && length >= STREAMED_BYTES
    }

    /// Loads `word` (Acquire), which the other writes, and learns from it if it is no longer `seen`: then its line comes
    /// from the other's core.
    #[cfg(not(loom))]
    pub(crate) fn load(&mut self, word: &AtomicU64, seen: u64) -> u64 {
        let times = self.untimed == 0;
        // A processor that expects this load not to be timed makes it ahead, and the timed one would find the line there: between
        // distant cores 7 of 10 were quick, and messages of 2 to 32 KiB were taken for ones between near cores.
        let value = select_unpredictable(times, &NOTHING, word).load(Ordering::Acquire);
        if !times {
            self.untimed -= 1;
            return value;
        }
        let (value, time) = timed(|| word.load(Ordering::Acquire));
        if value != seen {
            self.learn(time > limit());
        }
        self.untimed = match self.slow {
            0 | MOST => TIMED_ONE_IN - 1,
            _ if value == seen => TRIED_ONE_IN - 1,
            _ => 0,
        };
        value
    }

    /// Loads `word` (Acquire).
    #[cfg(loom)]
    pub(crate) fn load(&mut self, word: &AtomicU64, _seen: u64) -> u64 {
        word.load(Ordering::Acquire)
    }

    #[cfg(not(loom))]
    fn learn(&mut self, slow: bool) {
        self.slow = if slow { (self.slow + SLOW_LOAD).min(MOST) } else { self.slow.saturating_sub(1) };
        let far = self.slow >= DISTANT || self.far && self.slow > 0;
        self.far = far && crate::copy::can_stream();
    }
}

/// What `load` gives and how long it takes, with two looks at the clock.
#[cfg(not(loom))]
fn timed<T>(load: impl FnOnce() -> T) -> (T, Duration) {
    // The fences keep the load between the two looks.
    fence(Ordering::SeqCst);
    let start = Instant::now();
    fence(Ordering::SeqCst);
    let value = load();
    (value, start.elapsed())
}

/// The time of a load from a distant core with two looks at the clock.
#[cfg(not(loom))]
fn limit() -> Duration {
    static LIMIT: OnceLock<Duration> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let clock = (0..16).map(|_| timed(|| ()).1).min().unwrap_or(Duration::MAX);
        if clock > SLOW_CLOCK { Duration::MAX } else { clock + FAR }
    })
}

impl Default for Distance {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::board::{Board, Place, SLOTS_BYTES, Seat};
    use crate::bytes::{Line, SharedBytes};
    use crate::pool::{Holder, Owner, Pool, Returns};

    /// Around the limits between inline, plain and streaming, and with odd ends.
    const LENGTHS: [usize; 7] = [31, 1000, 1024, 1025, 2047, 3333, 4096];

    fn lines(bytes: usize) -> Vec<Line> {
        (0..bytes / 64).map(|_| Line::new()).collect()
    }

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + length) as u8).collect()
    }

    #[test]
    fn a_pool_for_a_distant_core_lends_what_was_given() {
        let bytes = lines(4 * 4096);
        let returns: Vec<_> = (0..4).map(|_| Returns::new()).collect();
        let pool = Pool::new(&returns, SharedBytes::new(&bytes));
        let (mut owner, holder) = (Owner::new(pool), Holder::new(pool));
        for length in LENGTHS {
            let chunk = owner.lend().unwrap();
            holder.fill(chunk, 0, &content(length), true).unwrap();
            let mut buffer = vec![0; length];
            holder.copy_out(chunk, 0, &mut buffer).unwrap();
            assert_eq!(buffer, content(length));
            holder.give_back(chunk).unwrap();
            owner.reclaim(|_| ());
        }
    }

    #[test]
    fn a_board_of_distant_cores_shows_what_was_put_there() {
        let (places, bytes) = ([Place::new(), Place::new()], [lines(1 << 20), lines(1 << 20)]);
        let seats = || [0, 1].map(|at| Seat { place: &places[at], buffer: SharedBytes::new(&bytes[at]) });
        let (mut one, mut other) = (Board::new(seats(), 0), Board::new(seats(), 1));
        one.set_room(SLOTS_BYTES + (64 << 10));
        for length in LENGTHS.into_iter().chain([20_000, 64 << 10]).cycle().take(40) {
            one.distance = Distance::DISTANT;
            let (whole, mut buffer) = (content(length), vec![0; length]);
            assert_eq!(one.awaited(length), None);
            one.show([0; 2], [&whole[..length / 3], &whole[length / 3..]]);
            other.pass([0; 2]);
            assert!(other.has_shown(0));
            other.read(0, 0, &mut buffer).unwrap();
            assert_eq!(buffer, whole);
            one.leave();
            other.leave();
        }
    }

    #[test]
    fn a_board_learns_the_distance_from_participants_that_always_show() {
        let (places, bytes) = ([Place::new(), Place::new()], [lines(1 << 20), lines(1 << 20)]);
        let seats = || [0, 1].map(|at| Seat { place: &places[at], buffer: SharedBytes::new(&bytes[at]) });
        let mut boards = [0, 1].map(|me| Board::new(seats(), me));
        let mut has_learnt = false;
        for _ in 0..100 {
            for (me, board) in boards.iter_mut().enumerate() {
                board.set_room(usize::MAX);
                assert_eq!(board.awaited(4096), None, "board {me}");
                board.show([0; 2], [&content(4096), &[]]);
            }
            for (me, board) in boards.iter_mut().enumerate() {
                // What was shown says already that the round before has been left.
                assert!(board.has_shown(1 - me));
                board.read(1 - me, 0, &mut [0; 4096]).unwrap();
                has_learnt |= board.distance.slow != Distance::new().slow;
            }
            boards.iter_mut().for_each(Board::leave);
        }
        assert!(has_learnt);
    }

    fn after(mut distance: Distance, loads: &[bool]) -> Distance {
        loads.iter().for_each(|&slow| distance.learn(slow));
        distance
    }

    #[test]
    fn a_slow_load_now_and_then_is_no_distance() {
        let loads = [false, false, false, true, false, false, false, true, false, false, false];
        let near = after(Distance::new(), &loads);
        assert!(!near.is_far() && !near.streams(1 << 20));
    }

    #[test]
    fn a_distance_is_believed_until_many_loads_in_a_row_are_quick() {
        let far = after(Distance::new(), &[true, false, true, true, false, true]);
        assert!(far.is_far() && far.streams(STREAMED_BYTES) && !far.streams(STREAMED_BYTES - 1));
        assert!(after(far, &[false; 8]).is_far());
        assert!(!after(far, &[false; MOST as usize]).is_far());
    }

    #[test]
    fn what_nobody_has_written_teaches_nothing() {
        let (word, mut distance) = (AtomicU64::new(7), Distance::new());
        for _ in 0..100 {
            assert_eq!(distance.load(&word, 7), 7);
        }
        assert_eq!(distance.slow, SLOW_LOAD);
    }
}
