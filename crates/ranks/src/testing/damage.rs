//! What something that writes over the segment can do to the ranks: give them errors, and nothing else.
//!
//! A script of bytes says what happens. Three ranks, all of them in one thread, start operations that do not block,
//! while their segment is written over: any word of it at random, or a message that is nearly right. In the end all
//! ranks but one are gone, and whatever that one waits for has to end. A panic, an abort or a hang is a defect.
//!
//! Property tests make scripts at random. `ci/fuzz` looks for those that reach code which no script has reached before.

use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use shm_core::board::{CELLS, Place, Topic};
use shm_core::direct::Transfer;
use shm_core::ring::{Cell, ROW_CELLS, RingHeader, SHUTTLE_BYTES, Shuttle};

use super::watchdog;
use crate::attach::Attachment;
use crate::collective::{Kind, topic};
use crate::diagnose::{self, Snapshot};
use crate::envelope;
use crate::job::Job;
use crate::launch::{self, in_process};
use crate::layout::{CALL_SITES, CallSiteEntry, JobHeader, RankControl, rank_state};
use crate::p2p::type_hash;
use crate::{ANY_SOURCE, ANY_TAG, Request, Status, Sum, World, call_site, last_words};

const RANKS: usize = 3;
/// Lengths of messages: of every way that a message can take.
const LENGTHS: [usize; 13] = [0, 1, 32, 33, 96, 97, 500, 1057, 8192, 8193, 20_000, 70_000, 400_000];
/// Where in a ring's stamps the row after this one begins.
const NEXT_ROW: u32 = 32 + 11;
/// Operations under way at a time, and rank.
const REQUESTS: usize = 8;

/// The next bytes of a script; zeroes when it is over.
struct Script<'s>(&'s [u8]);

impl Script<'_> {
    fn byte(&mut self) -> usize {
        let (&first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        first.into()
    }

    fn below(&mut self, bound: usize) -> usize {
        match bound {
            0..=256 => self.byte() % bound,
            _ => (self.byte() << 8 | self.byte()) % bound,
        }
    }

    /// Mostly what is nearly right: that goes deepest.
    fn word(&mut self, now: u64) -> u64 {
        match self.byte() % 10 {
            0 => 0,
            1 => u64::MAX,
            2 => now.wrapping_add(1),
            3 => now.wrapping_sub(1),
            4 => now ^ 1 << self.below(64),
            5 => now.swap_bytes(),
            6 => (0..8).fold(0, |word, _| word << 8 | self.byte() as u64),
            7 => now & !0xffff_ffff | self.byte() as u64,
            8 => now & 0xffff_ffff | (self.byte() as u64) << 32,
            _ => self.byte() as u64,
        }
    }

    fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

/// There is one segment for all scripts.
static PLAYING: Mutex<()> = Mutex::new(());

/// One rank and what it has under way.
struct Rank<'w> {
    world: &'w World,
    sends: Vec<Request<'w, Vec<u8>>>,
    receives: Vec<Request<'w, (Vec<u8>, Status)>>,
}

/// Plays a script.
pub(crate) fn play(script: &[u8]) {
    let _playing = PLAYING.lock().unwrap_or_else(PoisonError::into_inner);
    let _watched = watchdog::watch(script);
    let job = fresh_job();
    let attach = |rank| World::attached(Attachment::of_thread(job, rank));
    let worlds: [World; RANKS] = std::array::from_fn(attach);
    worlds.iter().for_each(|world| world.engine.borrow_mut().wait_alone());
    let idle = |world| Rank { world, sends: Vec::new(), receives: Vec::new() };
    let mut ranks: Vec<Rank<'_>> = worlds.iter().map(idle).collect();
    let mut script = Script(script);
    while !script.is_over() {
        match script.byte() % 18 {
            0..3 => write_over(job, &mut script),
            3 => forge_message(job, &mut script),
            4 => look_from_outside(job),
            16 | 17 => replay_message(job, &mut script),
            act => ranks[script.below(RANKS)].act(act, &mut script),
        }
    }
    let first = ranks.swap_remove(0);
    drop(ranks);
    (1..RANKS).for_each(|rank| job.depart(rank, rank_state::DEAD));
    first.finish();
    let [survivor, dead @ ..] = worlds;
    try_collectives(job, &survivor, &mut script);
    // Whatever it says, it comes back.
    let _ = survivor.finalize();
    look_from_outside(job);
    dead.into_iter().for_each(|world| drop(world.fail("the script is over".to_owned())));
}

/// A job whose segment is as if it had just been created.
///
/// Lanes borrow a mapping for as long as the process lives: one has to do for all scripts.
fn fresh_job() -> &'static Job {
    use rustix::fs::{FallocateFlags, fallocate};

    static JOB: OnceLock<(Job, Vec<u64>)> = OnceLock::new();
    let words = |job: &Job| -> Vec<u64> { header(job).iter().map(|word| word.load(Relaxed)).collect() };
    let (job, header_words) = JOB.get_or_init(|| {
        let job = in_process(RANKS).unwrap();
        // They share one, so one of them combines for all.
        job.header().cores.store(1, Relaxed);
        let words = words(&job);
        (job, words)
    });
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(job.segment().descriptor(), punch, 0, job.segment().size() as u64).unwrap();
    for (word, value) in header(job).iter().zip(header_words) {
        word.store(*value, Relaxed);
    }
    job
}

fn header(job: &Job) -> &[AtomicU64] {
    job.segment().slice_at(0, (job.geometry().header() + 64) / 8)
}

/// Writes over one word, or a range, of one of the segment's areas.
fn write_over(job: &Job, script: &mut Script<'_>) {
    let geometry = job.geometry();
    let (one, other) = (script.below(RANKS), script.below(RANKS));
    let area = match script.byte() % 8 {
        0 => 0..geometry.header() + 64,
        1 | 2 => geometry.control(one)..geometry.control(one) + size_of::<RankControl>(),
        3 => geometry.call_sites()..geometry.call_sites() + CALL_SITES * size_of::<CallSiteEntry>(),
        4 => geometry.board(one).start..geometry.board(one).start + 256,
        5 => ring_line(geometry.ring(one, other).start, script.below(16)),
        6 => geometry.transfers(one),
        _ => geometry.pool(one).start..geometry.pool(one).start + 1024,
    };
    let words: &[AtomicU64] = job.segment().slice_at(area.start, area.len() / 8);
    let first = script.below(words.len());
    let count = if script.byte() == 0 { script.below(64) } else { 1 };
    for at in (first..words.len()).take(count) {
        if !is_spared(job, area.start + at * 8) {
            words[at].store(script.word(words[at].load(Relaxed)), Relaxed);
        }
    }
}

/// The header of a ring, its shuttle, or the header of one of its first cells.
fn ring_line(ring: usize, number: usize) -> Range<usize> {
    let start = match number {
        0 => ring,
        1 => ring + size_of::<RingHeader>() - size_of::<Shuttle>(),
        _ => ring + size_of::<RingHeader>() + (number - 2) * size_of::<Cell>(),
    };
    start..start + 64
}

/// Words whose damage ends more than a rank that is a thread can end (`engine/direct/given_back.rs` has processes).
fn is_spared(job: &Job, place: usize) -> bool {
    let geometry = job.geometry();
    (0..RANKS).any(|rank| {
        // A rank that says for ever that it is copying is waited for until it is gone: nobody else would be.
        let copying = geometry.control(rank) + std::mem::offset_of!(RankControl, copying);
        // A rank that does not know whether somebody writes to its memory ends its process.
        let transfers = geometry.transfers(rank);
        let gate = std::mem::offset_of!(Transfer, gate)..size_of::<Transfer>();
        let is_gate = || gate.contains(&((place - transfers.start) % size_of::<Transfer>()));
        (copying..copying + 64).contains(&place) || transfers.contains(&place) && is_gate()
    })
}

/// The words of a cell's header.
fn cell(job: &Job, (sender, receiver): (usize, usize), at: usize) -> &[AtomicU64] {
    let cells = job.geometry().ring(sender, receiver).start + size_of::<RingHeader>();
    job.segment().slice_at(cells + at % job.geometry().ring_cells * size_of::<Cell>(), 8)
}

/// The position of the next message of a ring, and its cell: behind that of the newest one.
fn next_message(job: &Job, ring: (usize, usize)) -> (u64, usize) {
    let stamp = |&at: &usize| cell(job, ring, at)[0].load(Relaxed);
    let newest = (0..job.geometry().ring_cells).max_by_key(|at| stamp(at) as u32).unwrap_or(0);
    let (position, next) = (stamp(&newest) & 0xffff_ffff, stamp(&newest) as usize >> NEXT_ROW & 31);
    match position as usize % ROW_CELLS {
        // The first message of a row lies behind the others.
        0 if position == 0 => (0, ROW_CELLS - 1),
        0 => (position, next * ROW_CELLS + ROW_CELLS - 1),
        // A stamp that is damaged may stand in the first cell. Places are taken modulo how many there are.
        _ => (position, newest + job.geometry().ring_cells - 1),
    }
}

/// Makes an old message of a ring the next one.
fn replay_message(job: &Job, script: &mut Script<'_>) {
    let ring = (script.below(RANKS), script.below(RANKS));
    let (position, at) = next_message(job, ring);
    // Those before it in its row lie behind it.
    let old = cell(job, ring, at + job.geometry().ring_cells + 2 - script.below(9));
    let new = cell(job, ring, at);
    for (new, old) in new.iter().zip(old).skip(1) {
        new.store(old.load(Relaxed), Relaxed);
    }
    new[0].store(old[0].load(Relaxed) & !0xffff_ffff | (position + 1), Relaxed);
}

/// Writes the next message of a ring: one that its sender did not send, and that is nearly right.
fn forge_message(job: &Job, script: &mut Script<'_>) {
    let (sender, receiver) = (script.below(RANKS), script.below(RANKS));
    let (position, at) = next_message(job, (sender, receiver));
    if sender != receiver && script.byte() < 64 {
        return forge_in_shuttle(job, script, (sender, receiver), position);
    }
    let words = cell(job, (sender, receiver), at);
    let kind = script.below(usize::from(envelope::PART) + 2);
    let flags = if script.byte() < 32 { script.byte() << 8 } else { 0 };
    let next = if script.byte() < 32 { script.below(32) } else { script.below(4) } as u64;
    let payload = if script.byte() < 32 { script.below(1 << 11) } else { script.below(40) } as u64;
    let source = if script.byte() < 32 { script.byte() } else { sender } as u64;
    words[1].store(script.below(4) as u64 | source << 32, Relaxed);
    for word in &words[2..] {
        word.store(script.word(0), Relaxed);
    }
    let stamp = (position + 1) | payload << 32 | next << NEXT_ROW | ((kind | flags) as u64) << 48;
    words[0].store(stamp, Relaxed);
    job.control(receiver).senders.bits[0].fetch_or(1 << sender, Relaxed);
}

/// A message in the shuttle that nobody has sent, most likely behind all that lie in the ring.
fn forge_in_shuttle(job: &Job, script: &mut Script<'_>, ranks: (usize, usize), position: u64) {
    let (first, second) = (ranks.0.min(ranks.1), ranks.0.max(ranks.1));
    let start = job.geometry().ring(first, second).start + size_of::<RingHeader>() - size_of::<Shuttle>();
    let words: &[AtomicU64] = job.segment().slice_at(start, 8);
    // The first rank sends the odd ones.
    let last = words[0].load(Relaxed) as u32;
    let number = last.wrapping_add(if last.is_multiple_of(2) == (ranks.0 == first) { 1 } else { 2 });
    let kind = if script.byte() < 192 { envelope::EAGER } else { script.below(16) as u16 };
    let most = if script.byte() < 32 { 128 } else { SHUTTLE_BYTES + 1 };
    let length = script.below(most);
    let after = position.wrapping_sub(script.below(2) as u64);
    words[1].store(script.below(4) as u64 | (ranks.0 as u64) << 32, Relaxed);
    words[2].store(script.below(3) as u64 | u64::from(type_hash::<u8>()) << 32, Relaxed);
    words[3].store(if script.byte() < 192 { length as u64 } else { script.word(0) }, Relaxed);
    words[0].store(Shuttle::stamp(number, after, length, kind), Relaxed);
    for (sender, receiver) in [ranks, (ranks.1, ranks.0)] {
        job.control(receiver).senders.bits[0].fetch_or(1 << sender, Relaxed);
    }
}

impl<'w> Rank<'w> {
    /// One call that does not block. Every error is as good as any other, and none ends the job.
    fn act(&mut self, act: usize, script: &mut Script<'_>) {
        let world = self.world;
        let (peer, tag) = (script.below(RANKS), script.below(3) as i32);
        match act {
            5 | 6 if self.sends.len() < REQUESTS => {
                let data = vec![script.byte() as u8; LENGTHS[script.below(LENGTHS.len())]];
                self.sends.extend(world.isend(data, (peer, tag)));
            }
            7 if self.receives.len() < REQUESTS => self.receives.extend(world.irecv((peer, tag))),
            8 if self.receives.len() < REQUESTS => self.receives.extend(world.irecv((ANY_SOURCE, ANY_TAG))),
            9 if self.receives.len() < REQUESTS => {
                let buffer = vec![0; LENGTHS[script.below(LENGTHS.len())]];
                self.receives.extend(world.irecv_into(buffer, (peer, tag)));
            }
            10 => self.receives.retain_mut(|receive| matches!(receive.test(), Ok(false))),
            11 => self.sends.retain_mut(|send| matches!(send.test(), Ok(false))),
            12 if tag == 0 => drop(self.receives.pop()),
            12 => drop(self.sends.pop()),
            13 => drop(world.try_matched_probe((ANY_SOURCE, tag))),
            14 => drop(world.try_probe((peer, ANY_TAG))),
            _ => drop(world.engine.borrow_mut().progress()),
        }
    }

    /// Waits for everything, when all other ranks are gone.
    fn finish(self) {
        self.receives.into_iter().for_each(|receive| drop(receive.wait()));
        self.sends.into_iter().for_each(|send| drop(send.wait()));
        drop(self.world.recv_vec::<u8>((1, 7)));
        drop(self.world.probe((2, 7)));
        drop(self.world.send(&[1u8; 20_000], 1));
    }
}

/// Collectives whose other ranks seem to have come, and show anything.
fn try_collectives(job: &Job, world: &World, script: &mut Script<'_>) {
    let (words, bytes) = (type_hash::<u32>(), type_hash::<u8>());
    for act in 0..10 {
        let (kind, root, element_type, length) = match act {
            0 => (Kind::BroadcastVec, Some(1), words, 0),
            1 => (Kind::AllGatherVarying, None, words, 0),
            2 => (Kind::GatherVarying, Some(2), words, 0),
            3 => (Kind::AllToAllVarying, None, words, 0),
            4 => (Kind::ScatterVarying, Some(1), words, 0),
            5 => (Kind::AllReduce, None, words, 40_000),
            6 => (Kind::Broadcast, Some(1), bytes, 20),
            7 => (Kind::BroadcastObject, Some(2), bytes, 0),
            8 => (Kind::AllReduce, None, words, 4000),
            _ => (Kind::Barrier, None, type_hash::<()>(), 0),
        };
        // One of the ranks, or none of them, combines 4000 bytes of each.
        let teller = (act == 8).then(|| script.below(RANKS + 1));
        if let Some(teller) = teller {
            forge_teller(job, world, teller);
        }
        let topic_of = |root| topic(kind, root, element_type, 0, length);
        forge_rounds(job, world, script, [topic_of(root), topic_of(teller.or(root))]);
        match act {
            0 => drop(world.broadcast_vec(&mut vec![1u32], 1)),
            1 => drop(world.all_gather_varying(&[1u32, 2])),
            2 => drop(world.gather_varying(&[1u32, 2], 2)),
            3 => drop(world.all_to_all_varying(&[1u32, 2, 3], &[1, 1, 1])),
            4 => drop(world.scatter_varying::<u32>(&[], &[], 1)),
            5 => drop(world.all_reduce(&[1u32; 10_000], &mut [0; 10_000], Sum)),
            6 => drop(world.broadcast(&mut [0u8; 20], 1)),
            7 => drop(world.broadcast_object::<Vec<String>>(None, 2)),
            8 => drop(world.all_reduce(&[1u32; 1000], &mut [0; 1000], Sum)),
            _ => drop(world.barrier()),
        }
    }
}

/// Lets `teller` tell that all have come to the next round.
fn forge_teller(job: &Job, world: &World, teller: usize) {
    let word = job.geometry().header() + std::mem::offset_of!(JobHeader, all_shown);
    let next = world.engine.borrow().board.round() + 1;
    job.segment().at::<AtomicU64>(word).store(next << 16 | teller as u64, Relaxed);
}

/// Lets the other ranks show something in the next rounds, mostly what this one expects: the first topic, and then the second.
fn forge_rounds(job: &Job, world: &World, script: &mut Script<'_>, topics: [Topic; 2]) {
    let now = world.engine.borrow().board.round();
    for rank in 1..RANKS {
        let place = job.geometry().control(rank) + std::mem::offset_of!(RankControl, collective);
        let words: &[AtomicU64] = job.segment().slice_at(place, size_of::<Place>() / 8);
        let each = words.len() / (1 + CELLS);
        let (progress, cells) = words.split_at(each);
        if script.byte() > 32 || script.is_over() {
            progress[0].store(u64::MAX >> 1, Relaxed);
        }
        for round in now + 1..=now + CELLS as u64 {
            let topic = topics[usize::from(round > now + 1)];
            let cell = &cells[(round % CELLS as u64) as usize * each..][..8];
            [round, topic[0], topic[1]]
                .iter()
                .zip(cell)
                .for_each(|(&value, word)| word.store(value, Relaxed));
            cell[3].store(script.below(64) as u64, Relaxed);
            let at = script.below(8);
            cell[at].store(script.word(cell[at].load(Relaxed)), Relaxed);
        }
    }
}

/// Reads what the launcher and the tools read.
fn look_from_outside(job: &Job) {
    let snapshot = launch::snapshot(job);
    launch::positions(job).iter().for_each(|position| drop(position.to_string()));
    let findings = diagnose::find(&snapshot, Duration::ZERO, true);
    findings.iter().for_each(|finding| drop(diagnose::describe(&snapshot, finding)));
    drop((diagnose::state(&snapshot, &findings), diagnose::stand(&snapshot, 0), Snapshot::activity(job)));
    (0..RANKS).for_each(|rank| drop(last_words::read(job.control(rank))));
    (0..CALL_SITES as u16 + 2).for_each(|site| drop(call_site::describe(job, site)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Error;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn damage_is_an_error(script in prop::collection::vec(any::<u8>(), 0..400)) {
            play(&script);
        }
    }

    #[test]
    fn a_script_without_damage_moves_messages() {
        // Not just errors from the first step on.
        play(&[5, 0, 1, 0, 7, 3, 7, 1, 0, 0, 10, 1, 0, 0, 15, 0, 0, 0]);
    }

    #[test]
    fn what_follows_a_damaged_stamp_lies_in_the_ring() {
        let _playing = PLAYING.lock().unwrap_or_else(PoisonError::into_inner);
        let job = fresh_job();
        let ring = (0, 1);
        assert_eq!(next_message(job, ring), (0, ROW_CELLS - 1));
        cell(job, ring, 0)[0].store(1, Relaxed);
        let (position, at) = next_message(job, ring);
        assert_eq!((position, at % job.geometry().ring_cells), (1, job.geometry().ring_cells - 1));
        replay_message(job, &mut Script(&[0, 1, 0]));
        assert_eq!(cell(job, ring, at)[0].load(Relaxed) as u32, 2);
    }

    #[test]
    fn ranks_that_left_uncounted_are_noticed() {
        let _playing = PLAYING.lock().unwrap_or_else(PoisonError::into_inner);
        let _watched = watchdog::watch(b"ranks that left uncounted");
        let job = fresh_job();
        let world = World::attached(Attachment::of_thread(job, 0));
        world.engine.borrow_mut().wait_alone();
        // Back to where it was when they have left.
        job.header().departures.fetch_sub(RANKS as u32 - 1, Relaxed);
        (1..RANKS).for_each(|rank| job.depart(rank, rank_state::DEAD));
        assert!(matches!(world.recv_vec::<u8>(1), Err(Error::PeerGone { rank: 1, .. })));
        drop(world.fail("the test is over".to_owned()));
    }

    #[test]
    fn forged_rounds_are_heard() {
        let _playing = PLAYING.lock().unwrap_or_else(PoisonError::into_inner);
        let job = fresh_job();
        let world = World::attached(Attachment::of_thread(job, 0));
        world.engine.borrow_mut().wait_alone();
        (1..RANKS).for_each(|rank| job.depart(rank, rank_state::DEAD));
        // Of each cell only the last word is damaged, which a barrier does not look at.
        let rank: Vec<u8> = [0].into_iter().chain([0, 7, 0].repeat(CELLS)).collect();
        forge_rounds(
            job,
            &world,
            &mut Script(&rank.repeat(RANKS)),
            [topic(Kind::Barrier, None, type_hash::<()>(), 0, 0); 2],
        );
        assert!(world.barrier().is_ok());
        assert!(world.barrier().is_ok());
        drop(world.fail("the test is over".to_owned()));
    }
}
