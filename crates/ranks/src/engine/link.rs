//! What this rank knows of one other rank: both rings, what waits to go out, and the credit left.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::sync::atomic::Ordering::AcqRel;

use shm_core::direct::Remote;
use shm_core::pool::NoSuchChunk;
use shm_core::ring::{Ahead, Body, CELL_WORDS, Consumer, Producer};
use shm_core::{Bell, Doorbell, SegmentError};

use super::OperationId;
use super::chunks::{Chunks, Part};
use super::direct::Key;
use super::flow::{self, Flow};
use super::receive::Inflow;
use crate::envelope::{
    self, Envelope, INVITE, Lent, MATCH, PART, PULLED, PUSHED, control_words, copied_words, invite_words,
};
use crate::job::Job;
use crate::layout::{FIRST_PARTS, FIRST_RING_ROWS, MOST_PARTS, PART_BYTES, part_bytes, rank_state};

/// Messages of so many parts, each a whole chunk, are kept in them if they come before their receives: copied to memory of this process
/// first, 256 KiB took 38 µs instead of 19, and 64 KiB, which are in four parts, 7.7 both ways.
const KEPT_PARTS: usize = 5;

/// What an eager message costs beyond its payload while it is unexpected: about the size of its entry.
const ENVELOPE_COST: u64 = 64;

/// What one unexpected message counts against the bound.
#[inline]
pub(crate) fn charge(length: u64) -> u64 {
    length + ENVELOPE_COST
}

/// What a rank tells another one of a message under way between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has been matched: send it.
    Match { message: u32 },
    /// It has been matched, and goes to this address: copy along.
    Invite { message: u32, address: u64, key: Key },
    /// This rank has pulled so many blocks of it, and pulls no more.
    Pulled { message: u32, blocks: u32, key: Key },
    /// This rank has pushed so many blocks of it, and pushes no more.
    Pushed { message: u32, blocks: u32, key: Key },
}

impl Answer {
    /// The kind and the words of its cell.
    pub(super) fn cell(self) -> (u16, [u64; CELL_WORDS]) {
        let copied = |kind, message, blocks: u32, key: Key| {
            (kind, copied_words(message, blocks, key.seal(kind, message, blocks.into())))
        };
        match self {
            Self::Match { message } => (MATCH, control_words(message, 0, 0)),
            Self::Pulled { message, blocks, key } => copied(PULLED, message, blocks, key),
            Self::Pushed { message, blocks, key } => copied(PUSHED, message, blocks, key),
            Self::Invite { message, address, key } => {
                (INVITE, invite_words(message, address, key.seal(INVITE, message, address)))
            }
        }
    }
}

/// Another process's memory, as far as that is known.
#[derive(Debug, Clone, Copy)]
enum Reach {
    Unknown,
    Open(Remote),
    Closed,
}

/// Hashes the numbers of messages, which are small and follow each other: the default hash takes longer than the rest
/// of what a message costs here.
#[derive(Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u32(byte.into()));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// The parts of one message.
pub(super) struct Parts {
    list: [Part; MOST_PARTS],
    count: usize,
    /// Where the next one is told of.
    ahead: Ahead,
    /// Length of each, but for the last one.
    bytes: usize,
    /// Of the message.
    length: u64,
}

impl Parts {
    /// None so far of the message that begins with `first`, the next one.
    fn new(consumer: &Consumer, first: &Body) -> Self {
        let (bytes, length) = (part_bytes_of(first), Envelope::from_body(first).length);
        Self { list: [Part::default(); MOST_PARTS], count: 0, ahead: consumer.next(), bytes, length }
    }

    fn push(&mut self, part: Part) -> Result<(), String> {
        let place = self.list.get_mut(self.count).ok_or("a message in more parts than there can be")?;
        *place = part;
        self.count += 1;
        Ok(())
    }

    pub(super) fn as_slice(&self) -> &[Part] {
        &self.list[..self.count]
    }
}

/// The length of the parts of the LENT message that begins with `first`, but for the last one.
#[inline]
fn part_bytes_of(first: &Body) -> usize {
    part_bytes(Envelope::from_body(first).length, !envelope::is_fresh(first))
}

/// After a message of at least so many bytes one pauses so often before the first look for an answer, which cannot have come before:
/// looks take the line of its cell away from the near core that writes it, now and then in a rhythm that stays. Half round
/// trips on near cores of a Zen 4 machine, 30 alternating groups, without, with 4 and with 10 pauses, µs: 4 KiB 0.258, 0.258 and 0.263, 6 KiB 0.334,
/// 0.335 and 0.336, 8 KiB 0.486, 0.412 and 0.415 (single batches without from 0.39 to 1.0); 2 KiB 0.195, 0.194 and 0.214.
const PAUSED_FROM: usize = 4 << 10;
const PAUSES_WHILE_READ: u32 = 4;

/// Who empties a message of so many bytes part by part stays so many parts behind, so that what it reads has left the writer's nearest cache: near cores then
/// slow each other less, and distant ones know of the next part when they come to it. Half round trips of 2 ranks on a Zen 4 machine, 49 and 11
/// to 28 alternating groups, at once, one part behind and two, µs: near cores 128 KiB 3.82, 3.84 and 3.84, 256 KiB 7.37, 7.23 and 7.18, 512 KiB
/// 15.86, 15.53 and 15.52 (in use 20.97, 20.58 and 20.55); distant ones 64 KiB 4.92, 5.10 and -, 128 KiB 9.15, 8.79 and 9.50, 256 KiB
/// 17.3, 16.1 and 16.8 (in use 19.8, 18.4 and 18.6).
#[inline]
fn parts_behind(length: usize, fresh: bool) -> usize {
    let from = if fresh { 192 << 10 } else { 96 << 10 };
    usize::from(length >= from)
}

pub(crate) struct Link {
    /// Where the other rank sleeps.
    doorbell: &'static Doorbell,
    bell: &'static Bell,
    /// The ring to the other rank, made at the first message.
    pub(crate) producer: Option<Producer<'static>>,
    /// The ring from the other rank, once it has announced it.
    pub(crate) consumer: Option<Consumer<'static>>,
    /// Both ranks' pools.
    pub(super) chunks: Chunks,
    /// The other rank's memory.
    reach: Reach,
    /// Whether long messages to the other rank are offered to it: until it answers that it cannot take them.
    pub(crate) offers: bool,
    /// Answers that go out before anything else.
    pub(super) answers: VecDeque<Answer>,
    /// Sends whose envelope has not gone out yet, in order.
    pub(crate) queue: VecDeque<OperationId>,
    /// Matched sends with payload left, served in turn.
    pub(crate) streams: VecDeque<OperationId>,
    /// Rendezvous messages from the other rank, by its number.
    pub(crate) inflows: HashMap<u32, Inflow, BuildHasherDefault<NumberHasher>>,
    /// Chunks of messages that are kept in them.
    kept_chunks: usize,
    /// Charges of all eager messages sent.
    pub(crate) charged: u64,
    /// Payload bytes of the last message that went out at once, if no answer has been waited for since; non-blocking ones through
    /// the ring do not say it.
    pub(super) last_sent: u32,
    /// Whether a receive that has come too soon looks again.
    pub(super) flow: Flow,
    /// Charges that the receiver has released, as last seen.
    pub(crate) released_seen: u64,
    /// Charges of the eager messages from the other rank that have been matched ...
    pub(crate) released: u64,
    /// ... and how much of that it has been told.
    pub(crate) released_published: u64,
}

impl Link {
    /// What `me` knows of `other`: nothing yet.
    pub(crate) fn new(job: &'static Job, me: usize, other: usize) -> Self {
        Self {
            doorbell: &job.control(other).doorbell,
            bell: job.bell(other),
            producer: None,
            consumer: None,
            chunks: Chunks::new(job.pool(me), job.pool(other), job.geometry().held_chunks()),
            reach: Reach::Unknown,
            offers: true,
            answers: VecDeque::new(),
            queue: VecDeque::new(),
            streams: VecDeque::new(),
            inflows: HashMap::default(),
            kept_chunks: 0,
            charged: 0,
            last_sent: 0,
            flow: Flow::new(),
            released_seen: 0,
            released: 0,
            released_published: 0,
        }
    }

    /// Wakes the other rank if it sleeps, after the publishing store.
    #[inline]
    pub(crate) fn wake(&self) {
        self.bell.nudge(self.doorbell);
    }

    /// Sends an eager message in the shuttle; whether it could.
    #[inline(always)]
    pub(super) fn send_in_shuttle(&mut self, kind: u16, words: [u64; CELL_WORDS], payload: &[u8]) -> bool {
        let (Some(producer), Some(consumer)) = (&self.producer, &mut self.consumer) else { return false };
        consumer.send_in_shuttle(producer.pushed(), kind, words, payload)
    }

    /// Whether the next message is likely to come in the shuttle. Who looks there before it is written takes its line away from who
    /// writes it.
    #[inline]
    pub(super) fn awaits_shuttle(&self) -> bool {
        self.consumer.as_ref().is_some_and(Consumer::awaits_shuttle)
    }

    /// Pauses before one looks again and again for the next message, if it is likely to come in the shuttle; whether it is.
    #[inline(always)]
    pub(super) fn pause_for_shuttle(&mut self) -> bool {
        let pauses = self.consumer.as_mut().and_then(Consumer::pauses);
        (0..pauses.unwrap_or(0)).for_each(|_| std::hint::spin_loop());
        pauses.is_some()
    }

    /// For a receive that has come too soon, by a rank that has `sent` so much: looks a few times more if that is likely to pay; whether it
    /// looked. Then [`Link::looked_again`] is to be told what came of it.
    #[inline]
    pub(super) fn look_again(&mut self, sent: u64) -> bool {
        let Some(consumer) = &mut self.consumer else { return false };
        let pays = self.flow.pays(consumer.received(), sent);
        consumer.comes_one_way(self.flow.is_one_way());
        if pays {
            flow::look(|| consumer.is_ready());
        }
        pays
    }

    /// Whether the receive that has looked again had its message then.
    pub(super) fn looked_again(&mut self, had_it: bool) {
        let received = self.consumer.as_ref().map_or(0, Consumer::received);
        self.flow.learn(received, had_it);
    }

    /// Before one looks again and again for an answer that does not come in the shuttle, from the other rank or from `any`: gets
    /// ready to answer with as much as was sent last, or pauses while that is read.
    #[inline(always)]
    pub(super) fn prepare_for_answer(&mut self, any: bool) {
        let sent = std::mem::take(&mut self.last_sent) as usize;
        let Some(producer) = &self.producer else { return };
        producer.prepare_payload(sent, any);
        if sent >= PAUSED_FROM && !any && !producer.distance().is_far() {
            (0..PAUSES_WHILE_READ).for_each(|_| std::hint::spin_loop());
        }
    }

    /// The memory of the other rank, which is `other`, if this one can reach it.
    #[inline]
    pub(crate) fn memory(&mut self, job: &Job, other: usize) -> Option<Remote> {
        match self.reach {
            Reach::Open(memory) => Some(memory),
            Reach::Closed => None,
            Reach::Unknown => self.try_reach(job, other),
        }
    }

    #[cold]
    fn try_reach(&mut self, job: &Job, other: usize) -> Option<Remote> {
        // Before it attaches there is nothing to reach: that may change.
        if job.state(other) != rank_state::EMPTY {
            self.reach = job.memory_of(other).map_or(Reach::Closed, Reach::Open);
        }
        match self.reach {
            Reach::Open(memory) => Some(memory),
            Reach::Unknown | Reach::Closed => None,
        }
    }

    /// Empties the parts of the next message, which is LENT, into a buffer of its length, and takes the message; false if
    /// the rest of it does not come within so many looks, or something is wrong with it: the long way waits for it, and finds
    /// out what.
    pub(super) fn take_lent(&mut self, first: &Body, buffer: &mut [u8], mut looks: u32) -> bool {
        if buffer.len() <= PART_BYTES {
            return self.take_part(first, buffer).is_ok();
        }
        let Some(mut parts) = self.consumer.as_ref().map(|consumer| Parts::new(consumer, first)) else {
            return false;
        };
        let part_bytes = parts.bytes;
        let last = buffer.len().div_ceil(part_bytes) - 1;
        let behind = parts_behind(buffer.len(), envelope::is_fresh(first));
        for (index, target) in buffer.chunks_mut(part_bytes).enumerate() {
            while parts.count <= last.min(index + behind) {
                let mut part = loop {
                    match self.next_part(&mut parts) {
                        Some(Ok(part)) => break part,
                        None if looks > 0 => looks -= 1,
                        None | Some(Err(_)) => return false,
                    }
                    std::hint::spin_loop();
                };
                part.place = self.chunks.as_expected(part.place);
                self.chunks.expect(self.chunks.part_after(part.place, part_bytes));
                if parts.push(part).is_err() {
                    return false;
                }
            }
            if self.chunks.copy_out(parts.list[index], target).is_err() {
                return false;
            }
        }
        if let Some(last) = parts.as_slice().last() {
            // The next message begins in another chunk.
            self.chunks.expect(Lent { offset: 0, ..self.chunks.place_after(last.place) });
        }
        self.finish_parts(first, &parts).is_ok()
    }

    /// Takes the next message, which is LENT, has one part and this length, into the beginning of `buffer`.
    // What it is is read again, from the nearest cache: what a caller hands on by reference it has to keep in memory. Memory that others may write
    // to need not say the same twice.
    #[inline(never)]
    pub(super) fn take_next_part(&mut self, buffer: &mut [u8], length: u64) -> Result<(), String> {
        let told = self.consumer.as_mut().and_then(Consumer::peek).ok_or("no message")?;
        let told = told.map_err(|error| error.to_string())?;
        let is_same = envelope::is_in_a_chunk(&told) && Envelope::from_body(&told).length == length;
        if told.is_in_shuttle() || !is_same {
            return Err("a message that has become another one".into());
        }
        let length = length as usize;
        let target = match buffer.len() {
            whole if whole == length => buffer.get_mut(..black_box(whole)),
            _ => buffer.get_mut(..length),
        };
        self.take_part(&told, target.ok_or("a message longer than its buffer")?)
    }

    /// Takes the next message, which is LENT and has one part, into a buffer of its length.
    // One piece with its callers: 370 instructions were 150 then (docs/decisions/003-bulk-lane.md).
    #[inline(always)]
    fn take_part(&mut self, told: &Body, buffer: &mut [u8]) -> Result<(), String> {
        let consumer = self.consumer.as_ref().ok_or("a message without its ring")?;
        let place = self.chunks.as_expected(first_place(consumer, told)?);
        let part = Part { place, fresh: envelope::is_fresh(told), keep: false };
        self.chunks.copy_out(part, buffer).map_err(|error| error.to_string())?;
        self.chunks.expect(self.chunks.place_after(place));
        let has_room = self.consumer.as_mut().is_some_and(|consumer| consumer.pop_of_longer(told));
        if self.chunks.hold(place).map_err(|error| error.to_string())? | has_room {
            self.wake();
        }
        Ok(())
    }

    /// Whether the next message, which is LENT, has come with all of its parts.
    pub(super) fn has_all_parts(&self, first: &Body) -> bool {
        let length = Envelope::from_body(first).length;
        let last = length.saturating_sub(1) / part_bytes_of(first) as u64;
        // One that is too long to be sound is dealt with at once.
        last >= MOST_PARTS as u64
            || self.consumer.as_ref().is_some_and(|consumer| consumer.peek_ahead(last as usize).is_some())
    }

    /// Where the next message lies, which begins with `first`, is LENT and has come with all of its parts.
    pub(super) fn parts(&self, first: &Body) -> Result<Parts, String> {
        let consumer = self.consumer.as_ref().ok_or("a message without its ring")?;
        let mut parts = Parts::new(consumer, first);
        while ((parts.count * parts.bytes) as u64) < parts.length {
            let part = self.next_part(&mut parts);
            parts.push(part.ok_or("a message in parts that ends early")??)?;
        }
        Ok(parts)
    }

    /// Where the part after `parts` of the next message lies, which is LENT; `None` if it has not come.
    #[inline]
    fn next_part(&self, parts: &mut Parts) -> Option<Result<Part, String>> {
        let consumer = self.consumer.as_ref()?;
        let told = match consumer.peek_at(parts.ahead)? {
            Ok(body) => body,
            Err(error) => return Some(Err(error.to_string())),
        };
        parts.ahead = consumer.after(parts.ahead, &told);
        Some(self.part(consumer, &told, parts))
    }

    #[inline]
    fn part(&self, consumer: &Consumer, told: &Body, parts: &Parts) -> Result<Part, String> {
        let index = parts.count;
        let place = if index == 0 {
            first_place(consumer, told)?
        } else {
            let (number, place) = envelope::part(told);
            if envelope::kind(told) != PART || number != index as u64 {
                return Err(format!("no part {index} of a message in parts"));
            }
            place
        };
        let before = (index * parts.bytes) as u64;
        let bytes = parts.length.saturating_sub(before).min(parts.bytes as u64) as usize;
        self.chunks.check(place, bytes).map_err(|error| error.to_string())?;
        Ok(Part { place, fresh: envelope::is_fresh(told), keep: envelope::keeps_chunk(told) })
    }

    /// Copies all parts of a message into a buffer of its length.
    pub(super) fn copy_parts(&self, parts: &[Part], buffer: &mut [u8]) -> Result<(), NoSuchChunk> {
        let streamed = parts.first().is_some_and(|first| !first.fresh);
        let part_bytes = part_bytes(buffer.len() as u64, streamed);
        let mut targets = buffer.chunks_mut(part_bytes).zip(parts);
        targets.try_for_each(|(target, part)| self.chunks.copy_out(*part, target))
    }

    /// Takes the cells of the next message, which begins with `first` and whose parts have been read, and holds on to its chunks
    /// instead of those of the one before.
    pub(super) fn finish_parts(&mut self, first: &Body, parts: &Parts) -> Result<(), String> {
        let has_room = self.pop_parts(first, parts);
        if self.hold_parts(parts.as_slice()).map_err(|error| error.to_string())? | has_room {
            self.wake();
        }
        Ok(())
    }

    /// Takes the cells of the next message; returns as [`Consumer::pop`].
    fn pop_parts(&mut self, first: &Body, parts: &Parts) -> bool {
        let Some(consumer) = &mut self.consumer else { return false };
        // One without payload, which only damage makes, has to go too.
        let ahead = if parts.count == 0 { consumer.after(parts.ahead, first) } else { parts.ahead };
        consumer.pop_to(ahead)
    }

    /// Holds on to the chunks of a message instead of those of the one before; returns as [`Chunks::give_back`].
    fn hold_parts(&mut self, parts: &[Part]) -> Result<bool, NoSuchChunk> {
        let mut given = self.chunks.give_back_held()?;
        for part in parts.iter().filter(|part| !part.keep) {
            given |= self.chunks.hold_too(Lent { offset: 0, ..part.place })?;
        }
        Ok(given)
    }

    /// Takes the cells of the next message, which begins with `first`, but leaves it in its chunks, if that may be: what comes before
    /// its receive is copied once then, and not to memory of this process first. Not where the chunks are this rank's own: those
    /// are taken back when the other one leaves.
    pub(super) fn keep_parts(&mut self, first: &Body, parts: &Parts) -> Option<Box<[Part]>> {
        let list = parts.as_slice();
        let may_keep = list.len() >= KEPT_PARTS && list.iter().all(|part| !part.place.mine);
        if !may_keep || self.kept_chunks + list.len() > self.chunks.most_held() {
            return None;
        }
        self.kept_chunks += list.len();
        if self.pop_parts(first, parts) {
            self.wake();
        }
        Some(list.into())
    }

    #[cfg(test)]
    pub(super) fn kept_chunks(&self) -> usize {
        self.kept_chunks
    }

    /// Holds on to the chunks of a message that was kept in them, or gives them back.
    pub(super) fn empty_kept(&mut self, parts: &[Part]) -> Result<(), NoSuchChunk> {
        self.kept_chunks -= parts.len();
        if self.hold_parts(parts)? {
            self.wake();
        }
        Ok(())
    }

    /// Gives back the chunks that this rank holds on to: it goes to sleep, or leaves this world.
    pub(super) fn give_back_held(&mut self) -> Result<(), NoSuchChunk> {
        if self.chunks.held() > 0 && self.chunks.give_back_held()? {
            self.wake();
        }
        Ok(())
    }

    /// Whether nothing waits to go out.
    pub(crate) fn is_idle(&self) -> bool {
        self.answers.is_empty() && self.queue.is_empty() && self.streams.is_empty()
    }

    /// Whether no matched message is under way in either direction, nor its answer.
    pub(crate) fn is_settled(&self) -> bool {
        self.answers.is_empty() && self.inflows.values().all(|inflow| inflow.receive.is_none())
    }

    /// Whether one more unexpected message of `length` bytes stays within `bound`.
    #[inline]
    pub(crate) fn has_credit(&mut self, length: u64, bound: u64) -> bool {
        let after = self.charged + charge(length);
        if after - self.released_seen <= bound {
            return true;
        }
        self.refresh_credit();
        after - self.released_seen <= bound
    }

    #[cold]
    fn refresh_credit(&mut self) {
        let released = self.producer.as_ref().map_or(0, Producer::released);
        // From shared memory: only what was charged can have been released.
        if (self.released_seen..=self.charged).contains(&released) {
            self.released_seen = released;
        }
    }

    /// Counts an eager message as matched, and tells the sender now and then.
    #[inline]
    pub(crate) fn release(&mut self, length: u64, bound: u64) {
        self.released += charge(length);
        if self.released - self.released_published >= bound / 8 {
            self.released_published = self.released;
            if let Some(consumer) = &self.consumer {
                consumer.release(self.released);
            }
        }
    }
}

/// Where the first part of the next message lies, which is LENT.
#[inline]
pub(super) fn first_place(consumer: &Consumer, told: &Body) -> Result<Lent, String> {
    let word = consumer.payload_word(told).map(u64::from_le);
    word.map(Lent::from_word).ok_or_else(|| "a lent message that names no chunk".into())
}

/// Reserves and announces the ring from `sender` to `receiver`.
pub(crate) fn open_ring(
    job: &'static Job,
    sender: usize,
    receiver: usize,
) -> Result<Producer<'static>, SegmentError> {
    job.segment().reserve(job.first_rows_range(sender, receiver))?;
    let place = job.place(sender);
    let bits = &job.control(receiver).senders.bits[place / 64];
    // SYNC ring-announce: the receiver touches the ring only after it has seen the bit.
    bits.fetch_or(1 << (place % 64), AcqRel);
    let mut producer = Producer::beginning_with(job.ring(sender, receiver), FIRST_RING_ROWS);
    if job.shares_processors() {
        producer.spread();
    }
    Ok(producer)
}

/// Gives a producer without room for the longest message in parts the rest of its ring. Without memory for that it goes on
/// with what it has.
pub(super) fn enlarge_ring(
    producer: &mut Producer<'static>,
    job: &'static Job,
    (sender, receiver): (usize, usize),
    parts: usize,
) {
    if producer.lacks_rows_for(parts.max(FIRST_PARTS))
        && job.segment().reserve(job.ring_range(sender, receiver)).is_ok()
    {
        producer.use_all();
    }
}
