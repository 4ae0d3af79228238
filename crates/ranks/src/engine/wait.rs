//! Waiting for an operation, and for the others to leave.
//!
//! Spin (only if every rank that does not sleep can have a processor of its own), yield a few times, then park on this rank's
//! doorbell until somebody rings it: a message, a returned chunk, a collective, a departure. Before parking the
//! rank says in its status line what it waits for.

use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::compiler_fence;
use std::time::Duration;

use shm_core::{Backoff, Bell, Doorbell};

use super::progress::CELLS_PER_TURN;
use super::publish::Blocked;
use super::receive::Now;
use super::receives::{Expected, Receive};
use super::{Caller, Engine, OperationId};
use crate::error::{Departure, Error, Result};
use crate::layout::rank_state;
use crate::matching::Pattern;
use crate::status::Status;
use crate::turns::Turns;

/// Looks before the first yield while ranks <= cores. Longer than a round trip, shorter than what a wake-up of an
/// idle processor costs (about 10 µs, docs/decisions/004-waiting.md).
const SPINS: u32 = 2000;
/// Messages that go the short way between two looks at everything: the look costs as much as a few of them.
const SHORT_WAYS_PER_PROGRESS: u32 = 64;
/// Looks at the one awaited ring between two looks at everything.
const LOOKS_PER_PROGRESS: u32 = 16;
/// Yields before parking, of all ranks together that do not sleep: each hands the processor round to all others, so with
/// more of them they take longer.
const YIELDS: u32 = 1600;
const FEWEST_YIELDS: u32 = 4;
/// A backstop: whatever wakes a rank also changes something that it looks at, so this only bounds the damage if
/// the other side of a wake-up was killed between its steps.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

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

    /// How often to look before the first yield, when `awake` ranks do not sleep.
    ///
    /// Ranks for which there are cores enough may share one all the same, while another one idles: then who looks keeps
    /// from running whom it waits for. So looks that were in vain are fewer the next time. (Half round trip of 2 ranks of
    /// 128 on 2 cores that the system keeps on one of them.)
    fn spins(&self, awake: u32) -> u32 {
        match self.waits {
            _ if awake > self.cores => 0,
            WAITS_PER_TRIAL => SPINS,
            _ => SPINS >> self.in_vain,
        }
    }

    /// Remembers how a wait in which this rank looked ended: what it waited for came meanwhile, or looking was in vain.
    fn learn(&mut self, in_vain: bool) {
        let was_trial = self.waits >= WAITS_PER_TRIAL;
        match in_vain {
            false if was_trial => (self.in_vain, self.waits) = (0, 0),
            false => self.in_vain = self.in_vain.saturating_sub(1),
            true if was_trial => self.waits = 0,
            true if self.in_vain == MOST_IN_VAIN => self.waits += 1,
            true => self.in_vain += 1,
        }
    }

    /// Nothing comes while this rank has the turn.
    pub(super) const NONE: Self = Self { cores: 0, core_per_rank: false, yields: 0, in_vain: 0, waits: 0 };
}

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
    /// Receives without making an operation while there is hope that the message is about to come; `None` if it
    /// has to be waited for, or does not come alone.
    #[inline]
    pub(crate) fn receive_soon(
        &mut self,
        pattern: Pattern,
        expected: &Expected,
        buffer: &mut [u8],
    ) -> Result<Option<Status>> {
        // Who watches sees operations only.
        let Some(source) = pattern.source().filter(|_| self.observer.is_none()) else { return Ok(None) };
        for look in 0..=self.spins() {
            match self.try_receive_now(source, pattern, expected, buffer) {
                Now::Received(status) => {
                    if look > 0 {
                        self.patience.learn(false);
                    }
                    self.progress_now_and_then()?;
                    return Ok(Some(status));
                }
                Now::Otherwise => return Ok(None),
                Now::NotYet => {
                    if let Some(producer) = &mut self.links[source].producer {
                        producer.prepare();
                    }
                    std::hint::spin_loop();
                }
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
        let spins = self.spins();
        let mut backoff = Backoff::new(spins, self.yields());
        let (mut looked, mut in_vain) = (false, false);
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
                Ok(false) if backoff.snooze() => (looked, in_vain) = (true, in_vain || backoff.has_yielded()),
                Ok(false) => {
                    let published = published.get_or_insert_with(|| self.publish(&blocked));
                    if self.turns.is_some() {
                        // Sleeps have no limit then.
                        self.publish_in_full(&blocked, published);
                    }
                    match self.park_unless(&blocked, &mut done) {
                        Ok(Parked::Answered(answer)) => break Ok(answer),
                        Ok(Parked::Rung) => backoff.reset(),
                        Ok(Parked::Quiet) => self.publish_in_full(&blocked, published),
                        Err(error) => break Err(error),
                    }
                }
                Err(error) => break Err(error),
            }
        };
        if looked && spins > 0 {
            self.patience.learn(in_vain);
        }
        if let Some(published) = published {
            self.unpublish(published);
        }
        if observed_since != 0 {
            self.observe_wait(observed_since, &blocked);
        }
        outcome
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

    /// How often to look before the first yield. With more ranks than cores that depends on how many of them sleep:
    /// what those that do not sleep do is not known, so each is taken to need a core.
    #[inline]
    fn spins(&self) -> u32 {
        if self.patience.core_per_rank { SPINS } else { self.patience.spins(self.awake()) }
    }

    /// How often to yield before parking.
    fn yields(&self) -> u32 {
        (self.patience.yields / self.awake().max(1)).max(FEWEST_YIELDS)
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
        self.short_ways = self.short_ways.wrapping_add(1);
        self.progress_now_and_then()
    }

    /// Lets other operations have their turn while one rank sends or receives the short way all the time.
    #[inline]
    pub(crate) fn progress_now_and_then(&mut self) -> Result<()> {
        if self.short_ways.wrapping_sub(self.short_ways_seen) >= SHORT_WAYS_PER_PROGRESS {
            self.progress()?;
        }
        Ok(())
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

    fn check_damage(&self) -> Result<()> {
        self.damage.as_ref().map_or(Ok(()), |what| Err(Error::Damaged { what: what.clone() }))
    }

    fn departures_pending(&self) -> bool {
        // SYNC departure
        self.job.header().departures.load(Acquire) != self.departures_seen
    }

    /// Looks for ranks that have left since the last look; whether there were any.
    ///
    /// Their rings are read once more first: what a rank published before it left is still delivered.
    pub(crate) fn notice_departures(&mut self) -> Result<bool> {
        // SYNC departure
        let departures = self.job.header().departures.load(Acquire);
        if departures == self.departures_seen {
            return Ok(false);
        }
        self.departures_seen = departures;
        for rank in 0..self.size {
            if rank != self.rank && !self.departed[rank] {
                self.notice_shrinking(rank);
                self.notice_departure(rank)?;
            }
        }
        Ok(true)
    }

    fn notice_departure(&mut self, rank: usize) -> Result<()> {
        let departed = self.departure(rank).is_some();
        let leaving = departed || self.job.is_leaving(rank);
        if !departed && (!leaving || self.refusing[rank]) {
            return Ok(());
        }
        self.notice_rings();
        // Ends, unless the rank still sends while it is leaving: then one turn is followed by another soon.
        while self.drain(rank, CELLS_PER_TURN)? && departed {}
        self.refusing[rank] = true;
        self.departed[rank] = departed;
        if departed {
            self.others -= 1;
            self.fail_operations_with(rank);
            self.note_failure(rank);
        } else {
            self.fail_unmatched_sends(rank);
        }
        Ok(())
    }

    /// How `rank` left, if it has.
    pub(crate) fn departure(&self, rank: usize) -> Option<Departure> {
        match self.job.state(rank) {
            rank_state::DETACHED => Some(Departure::Finished),
            rank_state::FAILED | rank_state::DEAD => Some(Departure::Failed),
            _ => None,
        }
    }

    pub(crate) fn peer_gone(&self, caller: Caller, rank: usize) -> Error {
        let how = self.departure(rank).unwrap_or(Departure::Finished);
        Error::PeerGone { operation: caller.operation, rank, how, at: caller.at }
    }

    /// The error for a collective that needs `rank`, if that has left.
    pub(crate) fn gone(&self, caller: Caller, rank: usize) -> Option<Error> {
        self.departed[rank].then(|| self.peer_gone(caller, rank))
    }

    fn fail_operations_with(&mut self, rank: usize) {
        for id in self.posted.waiting_for(rank) {
            self.fail_posted(id, rank);
        }
        self.direct.forget(rank);
        self.fail_inflows(rank);
        self.fail_all_sends(rank);
    }

    /// Long messages that were matched and half sent can never be completed.
    fn fail_inflows(&mut self, rank: usize) {
        let broken: Vec<_> = self.links[rank].inflows.values().filter_map(|inflow| inflow.receive).collect();
        self.links[rank].inflows.retain(|_, inflow| inflow.receive.is_none());
        for id in broken {
            if let Some(caller) = self.receives.get(id).map(|receive| receive.caller) {
                let failure = self.peer_gone(caller, rank);
                self.fail_receive(id, failure);
            }
        }
    }

    pub(super) fn fail_posted(&mut self, id: OperationId, rank: usize) {
        let Some(Receive { pattern, caller, .. }) = self.receives.get(id) else { return };
        let (source, caller) = (pattern.source(), *caller);
        self.posted.cancel(source, id);
        let failure = self.peer_gone(caller, rank);
        self.fail_receive(id, failure);
    }

    /// Whether every other rank has left.
    pub(crate) fn is_alone(&self) -> bool {
        self.others == 0
    }

    /// Fails a receive from any rank when every other rank of several has left.
    pub(crate) fn fail_if_nobody_left(&mut self, id: OperationId) {
        let from_any = self.receives.get(id).is_some_and(|receive| receive.pattern.source().is_none());
        if from_any && self.size > 1 {
            self.fail_if_hopeless(id);
        }
    }

    /// Fails a receive that is waited for although only this rank itself could satisfy it: while it waits, it
    /// sends nothing.
    pub(crate) fn fail_if_hopeless(&mut self, id: OperationId) {
        let Some(receive) = self.receives.get(id).filter(|receive| receive.is_open()) else { return };
        let (source, Caller { operation, at }) = (receive.pattern.source(), receive.caller);
        let failure = match source {
            Some(rank) if rank == self.rank => {
                let remedy = "send the message first, with isend or a message up to the eager limit";
                Error::WouldDeadlock { operation, remedy, at }
            }
            None if self.is_alone() => Error::NobodyLeft { operation, at },
            _ => return,
        };
        if self.posted.cancel(source, id) {
            self.fail_receive(id, failure);
        }
    }

    /// Fails a send to this rank itself that is waited for, completes only when it is received, and is not.
    pub(crate) fn fail_send_if_hopeless(&mut self, id: OperationId) {
        let Some(send) = self.sends.get(id) else { return };
        let Caller { operation, at } = send.caller;
        if send.destination == self.rank && !send.is_complete() {
            let remedy = "post the receive first, with irecv";
            self.withdraw_send_to_self(id, Error::WouldDeadlock { operation, remedy, at });
        }
    }

    /// Fails a new receive that only a rank which has left could satisfy.
    pub(super) fn check_departed_source(&mut self, id: OperationId, pattern: Pattern) {
        let gone = match pattern.source() {
            Some(rank) => Some(rank).filter(|&rank| self.departed[rank]),
            None => self.unacknowledged(),
        };
        if let Some(rank) = gone {
            self.fail_posted(id, rank);
        }
    }

    /// Fails the long messages from a rank that has left with a part of them.
    pub(super) fn check_departed_sender(&mut self, rank: usize) {
        if self.departed[rank] {
            self.fail_inflows(rank);
        }
    }

    pub(super) fn departed(&self, rank: usize) -> bool {
        self.departed[rank]
    }

    /// Whether `rank` matches no more messages.
    pub(super) fn refuses(&self, rank: usize) -> bool {
        self.refusing[rank]
    }
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
        assert_eq!(after_waits_in_vain(0).spins(2), SPINS);
        assert_eq!(after_waits_in_vain(1).spins(2), SPINS / 2);
        assert_eq!(after_waits_in_vain(100).spins(2), SPINS >> MOST_IN_VAIN);
        assert_eq!(after_waits_in_vain(0).spins(3), 0);
    }

    #[test]
    fn who_looked_in_vain_for_long_tries_again_and_learns() {
        let mut patience = after_waits_in_vain(MOST_IN_VAIN + WAITS_PER_TRIAL);
        assert_eq!(patience.spins(2), SPINS);
        patience.learn(true);
        assert_eq!(patience.spins(2), SPINS >> MOST_IN_VAIN);
        (0..WAITS_PER_TRIAL).for_each(|_| patience.learn(true));
        patience.learn(false);
        assert_eq!(patience.spins(2), SPINS);
        patience.learn(true);
        assert_eq!(patience.spins(2), SPINS / 2);
    }
}
