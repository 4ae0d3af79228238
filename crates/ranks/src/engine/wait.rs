//! Waiting for an operation.
//!
//! Spin (for long only if every rank that does not sleep can have a processor of its own, else for a moment before each yield,
//! unless the awaited one is on this rank's), yield a few times, then park on this rank's doorbell until somebody rings it: a
//! message, a returned chunk, a collective, a departure. Before parking the rank says in its status line what it waits for.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::compiler_fence;
use std::time::Duration;

use shm_core::ring::Body;
use shm_core::{Backoff, Bell, Doorbell};

use super::link::Link;
use super::publish::Blocked;
use super::receives::Expected;
use super::short_ways::Now;
use super::{Caller, Engine};
use crate::error::{Error, Result};
use crate::matching::Pattern;
use crate::status::Status;
use crate::turns::Turns;

/// Receives that take the short way between two looks at everything: the look costs as much as a few of them. With 64 each window of 64 messages
/// had one before its end could be told of: 8 bytes 534 MB/s instead of 541, 64 bytes 3457 and 3493 (110 alternating groups, near cores of a Zen 4
/// machine).
const SHORT_WAYS_PER_PROGRESS: u32 = 256;
/// A cell that is sent, or a round of a collective, counts as so many: who only sends empties the rings to it before they are full, which have 69
/// cells.
const RECEIVES_PER_SEND: u32 = 4;
/// Looks at the one awaited ring between two looks at everything, and looks at everything between two questions whether a
/// neighbour is waited for.
const LOOKS_PER_PROGRESS: u32 = 16;
/// A backstop: whatever wakes a rank also changes something that it looks at, so this only bounds the damage if
/// the other side of a wake-up was killed between its steps.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// What came of going to sleep.
enum Parked<T> {
    /// What was waited for is there.
    Answered(T),
    /// Something happened: worth looking, and spinning, again.
    Rung,
    /// Nothing happened for as long as a sleep may last.
    Quiet,
}

impl Engine {
    /// Receives an ordinary message (see [`Engine::take_ordinary`]) if it is there or there is hope that it is about to come;
    /// what its cell says. `None` if it has to be waited for, or is something else.
    #[inline]
    pub(crate) fn receive_soon(
        &mut self,
        pattern: Pattern,
        element_type: u32,
        buffer: &mut [u8],
    ) -> Result<Option<Body>> {
        // Who watches sees operations only.
        let Some(source) = pattern.source() else { return Ok(None) };
        if self.observer.is_some() || !self.comes_first() {
            return Ok(None);
        }
        if !self.has_next(source)
            && let Err(reason) = self.look_out_for(source)
        {
            return reason.map_or(Ok(None), |error| Err(*error));
        }
        let Some(body) = self.take_ordinary::<true>(source, pattern, element_type, buffer) else {
            return Ok(None);
        };
        self.progress_now_and_then()?;
        Ok(Some(body))
    }

    /// Receives any message without making an operation, if that can be done soon.
    pub(crate) fn receive_other_soon(
        &mut self,
        pattern: Pattern,
        expected: &Expected,
        buffer: &mut [u8],
    ) -> Result<Option<Status>> {
        if self.observer.is_some() {
            return Ok(None);
        }
        let Some(source) = pattern.source() else {
            return self.receive_soon_from_any(pattern, expected, buffer);
        };
        let Now::Received(status) = self.try_receive_now(source, pattern, expected, buffer, true) else {
            return Ok(None);
        };
        self.progress_now_and_then()?;
        Ok(Some(status))
    }

    /// Looks for the next cell from `source` while there is hope that it is about to come, and nothing else comes before it;
    /// an error, if there is one, or nothing if it is not there.
    // Out of the way: what a loop needs in registers, its caller would have to keep in memory. Boxed errors are returned in
    // registers, too.
    #[inline(never)]
    fn look_out_for(&mut self, source: usize) -> std::result::Result<(), Option<Box<Error>>> {
        let is_answer = self.links[source].pause_for_shuttle();
        if !is_answer {
            self.links[source].prepare_for_answer(false);
        }
        for look in 0..self.spins() {
            let link = &mut self.links[source];
            let Some(consumer) = &mut link.consumer else { return Err(None) };
            if consumer.look() {
                if is_answer && look > 0 {
                    consumer.came_after(look);
                }
                self.patience.learn(false);
                return Ok(());
            }
            if let Some(producer) = &mut link.producer {
                producer.prepare();
            }
            std::hint::spin_loop();
            if look % LOOKS_PER_PROGRESS == LOOKS_PER_PROGRESS - 1 {
                self.progress().map_err(|error| Some(Box::new(error)))?;
                if let Some(lender) = &mut self.lender {
                    lender.reclaim_ahead();
                }
                if !self.comes_first() {
                    return Err(None);
                }
            }
        }
        Err(None)
    }

    fn receive_soon_from_any(
        &mut self,
        pattern: Pattern,
        expected: &Expected,
        buffer: &mut [u8],
    ) -> Result<Option<Status>> {
        let answerer = match self.incoming[..] {
            [source] => {
                let is_answer = self.links[source].pause_for_shuttle();
                if !is_answer {
                    self.links[source].prepare_for_answer(true);
                }
                is_answer.then_some(source)
            }
            // Of several nobody knows whose message comes first.
            _ => {
                if self.incoming.iter().any(|&source| self.links[source].awaits_shuttle()) {
                    std::hint::spin_loop();
                }
                None
            }
        };
        for look in 0..=self.spins() {
            match self.try_receive_from_any(pattern, expected, buffer) {
                Now::Received(status) => {
                    if look > 0 {
                        self.patience.learn(false);
                        if let Some(consumer) =
                            answerer.and_then(|source| self.links[source].consumer.as_mut())
                        {
                            consumer.came_after(look);
                        }
                    }
                    self.progress_now_and_then()?;
                    return Ok(Some(status));
                }
                Now::Otherwise => return Ok(None),
                Now::NotYet => std::hint::spin_loop(),
            }
            if look % LOOKS_PER_PROGRESS == LOOKS_PER_PROGRESS - 1 {
                self.progress()?;
            }
        }
        Ok(None)
    }

    /// Progresses everything until `done` gives an answer.
    ///
    /// # Errors
    ///
    /// Whatever [`Engine::progress`] finds. That a rank left is not an error of its own: `done` sees it.
    #[inline]
    pub(crate) fn wait_until<T>(
        &mut self,
        blocked: Blocked<'_>,
        mut done: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T> {
        let awake = self.awake();
        let mut backoff = self.patience.backoff(awake);
        let (mut looks, mut in_vain) = (0, false);
        let mut published = None;
        let mut observed_since = 0;
        let outcome = loop {
            if let Some(answer) = done(self) {
                break Ok(answer);
            }
            if observed_since == 0 && self.observer.is_some() {
                observed_since = self.observed_since();
                // Who watches sees the wait from its beginning: on a busy machine it takes long to come to sleep.
                published.get_or_insert_with(|| self.publish(&blocked));
            }
            match self.progress() {
                Ok(true) => backoff.reset(),
                // Each yield takes as long as others need the processor: a rank that left is noticed meanwhile.
                Ok(false)
                    if !(backoff.has_yielded() && self.departures_pending())
                        && self.snooze(&mut backoff, &mut looks, &blocked) =>
                {
                    in_vain |= backoff.has_yielded();
                    if backoff.has_yielded_often() {
                        // On a busy machine it takes seconds to come to sleep, and who looks for hangs is to know of this one.
                        published.get_or_insert_with(|| self.publish(&blocked));
                    }
                }
                Ok(false) => {
                    in_vain = true;
                    let published = published.get_or_insert_with(|| self.publish(&blocked));
                    if self.turns.is_some() {
                        // Sleeps have no limit then.
                        self.publish_in_full(&blocked, published);
                    }
                    match self.park_unless(&blocked, &mut done) {
                        Ok(Parked::Answered(answer)) => break Ok(answer),
                        Ok(Parked::Rung) => backoff.reset(),
                        Ok(Parked::Quiet) => {
                            self.publish_in_full(&blocked, published);
                            if let Err(error) = self.look_for_departures() {
                                break Err(error);
                            }
                        }
                        Err(error) => break Err(error),
                    }
                }
                Err(error) => break Err(error),
            }
        };
        if looks > 0 && !backoff.is_sharing() {
            self.patience.learn(in_vain);
            self.patience.learn_of_others(&backoff);
        }
        if backoff.has_ever_yielded() {
            self.learn_of_yields();
        }
        if let Some(published) = published {
            self.unpublish(published);
        }
        if observed_since != 0 {
            self.observe_wait(observed_since, &blocked);
        }
        outcome
    }

    /// Passes a moment of a wait; false when it is time to park.
    #[inline]
    fn snooze(&mut self, backoff: &mut Backoff, looks: &mut u32, blocked: &Blocked<'_>) -> bool {
        let asks = looks.is_multiple_of(LOOKS_PER_PROGRESS) || backoff.has_yielded();
        *looks = looks.wrapping_add(1);
        if backoff.is_sharing() && asks && self.awaits_neighbour(blocked) {
            backoff.skip_spins();
        }
        backoff.snooze()
    }

    /// Finishes what is under way and says that this rank matches no more messages.
    pub(crate) fn leave(&mut self, caller: Caller) -> Result<()> {
        // In this order: a sender that is told gives up what was not matched, so no answer may come after that.
        self.wait_until(self.blocked_in_leaving(caller), |engine| {
            engine.has_answered_everything().then_some(())
        })?;
        self.job.announce_leaving(self.rank);
        // What ends one wait may leave another one: then the rank says anew what it waits for.
        while !self.has_finished_everything() {
            let first = self.first_unfinished();
            let over = |engine: &mut Self| {
                let finished = engine.has_finished_everything();
                (finished || engine.first_unfinished() != first).then_some(())
            };
            self.wait_until(self.blocked_in_leaving(caller), over)?;
        }
        self.lost_send.take().map_or(Ok(()), Err)
    }

    /// Nobody else runs: to yield to other processes hundreds of times before each sleep would only take time.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn wait_alone(&mut self) {
        self.patience = self.patience.alone();
    }

    #[inline]
    pub(super) fn spins(&self) -> u32 {
        self.patience.spins(|| self.awake())
    }

    /// Ranks that do not sleep, at the time of the call.
    fn awake(&self) -> u32 {
        let asleep: u32 = self.sleepers.iter().map(|bits| bits.load(Relaxed).count_ones()).sum();
        (self.size as u32).saturating_sub(asleep)
    }

    /// How often a collective looks at what it waits for before it looks at anything else.
    #[inline]
    pub(crate) fn looks(&self) -> u32 {
        if self.observer.is_some() { 0 } else { self.spins() / LOOKS_PER_PROGRESS }
    }

    /// Counts a collective's round among what goes the short way.
    #[inline]
    pub(crate) fn progress_after_round(&mut self) -> Result<()> {
        self.short_ways = self.short_ways.wrapping_add(RECEIVES_PER_SEND);
        self.progress_now_and_then()
    }

    #[inline(always)]
    pub(super) fn all_short_ways(&self) -> u32 {
        self.short_ways.wrapping_add((self.sent as u32).wrapping_mul(RECEIVES_PER_SEND))
    }

    /// Lets other operations have their turn while one rank sends or receives the short way all the time.
    #[inline(always)]
    pub(crate) fn progress_now_and_then(&mut self) -> Result<()> {
        if self.all_short_ways().wrapping_sub(self.short_ways_seen) < SHORT_WAYS_PER_PROGRESS {
            return Ok(());
        }
        self.progress_once_in_a_while()
    }

    /// Out of the way: with the whole of `progress` in it, the question whether it is time would be a call.
    #[cold]
    #[inline(never)]
    fn progress_once_in_a_while(&mut self) -> Result<()> {
        self.board.sample_distance();
        self.progress().map(drop)
    }

    /// Sleeps until the doorbell rings, unless there is something to do or the answer is there.
    #[cold]
    fn park_unless<T>(
        &mut self,
        blocked: &Blocked<'_>,
        done: &mut impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<Parked<T>> {
        self.check_damage()?;
        self.check_membership(blocked)?;
        if self.notice_departures()? {
            return Ok(Parked::Rung);
        }
        self.give_back_held()?;
        let job = self.job;
        job.control(self.rank).copying.rest();
        let (bell, doorbell) = (job.bell(self.rank), &job.control(self.rank).doorbell);
        let place = job.place(self.rank);
        let (sleepers, bit) = (&job.header().sleepers.bits[place / 64], 1 << (place % 64));
        sleepers.fetch_or(bit, Relaxed);
        bell.prepare(doorbell);
        let outcome = self.sleep_unless(done, bell, doorbell);
        sleepers.fetch_and(!bit, Relaxed);
        outcome
    }

    fn sleep_unless<T>(
        &mut self,
        done: &mut impl FnMut(&mut Self) -> Option<T>,
        bell: &Bell,
        doorbell: &Doorbell,
    ) -> Result<Parked<T>> {
        if let Some(turns) = self.turns {
            return self.sleep_out_of_turn(turns, done);
        }
        // From here on a ring is not lost; what came before it has to be looked for once more: at once, and after
        // a nap for what was published without a fence.
        for sleep in [Bell::nap, |bell: &Bell, doorbell: &Doorbell| bell.park(doorbell, Some(LONGEST_SLEEP))]
        {
            let outcome = self.look_around(done);
            if !matches!(outcome, Ok(Parked::Quiet)) {
                bell.cancel(doorbell);
                return outcome;
            }
            if sleep(bell, doorbell) {
                return Ok(Parked::Rung);
            }
        }
        Ok(Parked::Quiet)
    }

    /// Lets others run until something has happened for this rank, whose doorbell is prepared.
    fn sleep_out_of_turn<T>(
        &mut self,
        turns: Turns<'static>,
        done: &mut impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<Parked<T>> {
        let (bell, doorbell) = (self.job.bell(self.rank), &self.job.control(self.rank).doorbell);
        let outcome = self.look_around(done);
        if !matches!(outcome, Ok(Parked::Quiet)) {
            bell.cancel(doorbell);
            return outcome;
        }
        let place = self.job.place(self.rank);
        turns.end(place);
        bell.park(doorbell, None);
        turns.wait(place);
        Ok(Parked::Rung)
    }

    /// Whether there is a reason not to sleep.
    fn look_around<T>(&mut self, done: &mut impl FnMut(&mut Self) -> Option<T>) -> Result<Parked<T>> {
        let moved = self.progress()?;
        let rung = if moved || self.departures_pending() { Parked::Rung } else { Parked::Quiet };
        Ok(done(self).map_or(rung, Parked::Answered))
    }

    /// Wakes those that sleep until this rank does something in a collective, after the publishing store.
    #[inline]
    pub(crate) fn wake_waiting(&self) {
        // No earlier than the store: how much later others see that is the sleepers' business (`Bell::nudge`).
        compiler_fence(SeqCst);
        for (word, bits) in self.sleepers.iter().enumerate() {
            let bits = bits.load(Relaxed);
            if bits != 0 {
                self.wake_waiting_among(word, bits);
            }
        }
    }

    #[cold]
    fn wake_waiting_among(&self, word: usize, bits: u64) {
        let sleepers = (0..64).filter(|bit| bits >> bit & 1 == 1).map(|bit| word * 64 + bit);
        let (job, mine) = (self.job, self.job.place(self.rank) as u32);
        for rank in sleepers.filter_map(|place| job.rank_at(place)).filter(|&rank| rank != self.rank) {
            if job.control(rank).status.peer.load(Relaxed) == mine {
                self.links[rank].wake();
            }
        }
    }

    /// Gives back all chunks that this rank holds on to: who sleeps sends nothing there.
    pub(super) fn give_back_held(&mut self) -> Result<()> {
        let given = self.links.iter_mut().try_for_each(Link::give_back_held);
        given.map_err(|error| self.damaged(error.to_string()))
    }

    fn check_damage(&self) -> Result<()> {
        self.damage.as_ref().map_or(Ok(()), |what| Err(Error::Damaged { what: what.clone() }))
    }
}
