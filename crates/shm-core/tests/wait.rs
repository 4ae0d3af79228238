//! Waiting: wake-ups by ring and notice, time, and that sleeping costs nothing.
#![cfg(not(loom))]

mod common;

use std::sync::Barrier;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::watched;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use shm_core::wait::wait_until;
use shm_core::{Backoff, Bell, Doorbell};

fn bell(label: &str) -> Bell {
    let name = common::name(label);
    let bell = Bell::create(&name).unwrap();
    Bell::unlink(&name).unwrap();
    bell
}

fn wait_for(bell: &Bell, doorbell: &Doorbell, value: &AtomicU64, wanted: u64) {
    let condition = || (value.load(Ordering::Acquire) >= wanted).then_some(());
    wait_until(bell, doorbell, Backoff::new(0, 0), condition, || Ok::<_, ()>(None)).unwrap();
}

#[test]
fn two_threads_wake_each_other_many_times_without_losing_a_ring() {
    watched("ping pong", || {
        let (bells, doorbells) = ([bell("pp0"), bell("pp1")], [Doorbell::new(), Doorbell::new()]);
        let turns = [AtomicU64::new(0), AtomicU64::new(0)];
        let play = |me: usize, rounds: u64| {
            let other = 1 - me;
            for round in 1..=rounds {
                if me == 1 {
                    wait_for(&bells[me], &doorbells[me], &turns[me], round);
                }
                turns[other].store(round, Ordering::Release);
                bells[other].ring(&doorbells[other]);
                if me == 0 {
                    wait_for(&bells[me], &doorbells[me], &turns[me], round);
                }
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| play(0, 20_000));
            scope.spawn(|| play(1, 20_000));
        });
    });
}

#[test]
fn several_ringers_and_one_sleeper() {
    watched("ringers", || {
        const EACH: u64 = 5_000;
        let (bell, doorbell, count) = (bell("many"), Doorbell::new(), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        count.fetch_add(1, Ordering::Release);
                        bell.ring(&doorbell);
                    }
                });
            }
            (1..=3 * EACH).for_each(|wanted| wait_for(&bell, &doorbell, &count, wanted));
        });
    });
}

#[test]
fn a_notice_wakes_a_sleeper_whose_ringer_died_halfway() {
    watched("notice", || {
        let (bell, doorbell, count) = (bell("notice"), Doorbell::new(), AtomicU64::new(0));
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| wait_for(&bell, &doorbell, &count, 1));
            thread::sleep(Duration::from_millis(50));
            // What a ringer does before it dies: the word is AWAKE, the owner still sleeps.
            bell.cancel(&doorbell);
            count.store(1, Ordering::Release);
            bell.ring(&doorbell);
            assert!(!sleeper.is_finished() || cfg!(feature = "named-semaphores"));
            bell.notify(&doorbell);
        });
    });
}

#[test]
fn a_park_without_a_ring_lasts_its_time() {
    let (bell, doorbell) = (bell("time"), Doorbell::new());
    let begin = Instant::now();
    bell.prepare(&doorbell);
    assert!(!bell.park(&doorbell, Some(Duration::from_millis(30))));
    assert!(begin.elapsed() >= Duration::from_millis(30));
}

#[test]
fn a_nap_without_a_ring_leaves_the_announcement_for_a_nudge_to_end() {
    watched("nap", || {
        let (bell, doorbell) = (bell("nap"), Doorbell::new());
        bell.prepare(&doorbell);
        assert!(!bell.nap(&doorbell));
        bell.nudge(&doorbell);
        assert!(bell.park(&doorbell, None));
    });
}

#[test]
fn a_ring_between_prepare_and_park_is_kept() {
    watched("kept", || {
        let (bell, doorbell) = (bell("kept"), Doorbell::new());
        for _ in 0..100 {
            bell.prepare(&doorbell);
            bell.ring(&doorbell);
            bell.park(&doorbell, None);
        }
    });
}

#[test]
fn an_interrupt_ends_a_wait_but_a_condition_that_came_true_wins() {
    let (bell, doorbell) = (bell("inter"), Doorbell::new());
    let backoff = Backoff::new(3, 3);
    let never = wait_until(&bell, &doorbell, backoff, || None::<()>, || Err("peer is gone"));
    assert_eq!(never, Err("peer is gone"));
    let came = std::cell::Cell::new(false);
    let interrupt = || {
        came.set(true);
        Err("peer is gone")
    };
    let last_look = wait_until(&bell, &doorbell, backoff, || came.get().then_some(7), interrupt);
    assert_eq!(last_look, Ok(7));
}

#[test]
fn a_waiter_that_shares_its_processor_spins_before_each_yield_unless_it_skips_that() {
    let yields = |mut backoff: Backoff| {
        // After each moment, whether there has been a yield.
        std::iter::from_fn(|| backoff.snooze().then(|| backoff.has_yielded())).collect::<Vec<_>>()
    };
    assert_eq!(yields(Backoff::new(2, 1)), [false, false, true]);
    assert_eq!(yields(Backoff::sharing(1, 2)), [false, true, true, true, true]);
    let mut backoff = Backoff::sharing(9, 2);
    for _ in 0..2 {
        backoff.skip_spins();
        assert!(backoff.snooze() && backoff.has_yielded());
    }
    backoff.skip_spins();
    assert!(!backoff.snooze());
    backoff.reset();
    assert!(backoff.snooze() && !backoff.has_yielded());
}

/// Ends what is busy, whatever becomes of its holder.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_waiter_beside_somebody_busy_stops_yielding() {
    let (ended, waiting) = (AtomicBool::new(false), Barrier::new(2));
    let bound = || {
        let mut one = CpuSet::new();
        let allowed = sched_getaffinity(None).unwrap();
        one.set((0..CpuSet::MAX_CPU).find(|&number| allowed.is_set(number)).unwrap());
        sched_setaffinity(None, &one).unwrap();
        waiting.wait();
    };
    let busy = || {
        bound();
        while !ended.load(Relaxed) {
            std::hint::spin_loop();
        }
    };
    let waiter = || {
        let _ended = Ended(&ended);
        bound();
        // So many would take years.
        let mut backoff = Backoff::new(0, u32::MAX);
        while backoff.snooze() {}
        assert!(backoff.was_crowded_out());
        backoff.reset();
        assert!(!backoff.snooze(), "progress does not change that somebody is busy");
        let mut one_of_several = Backoff::sharing(0, 20);
        let moments = (0..100).take_while(|_| one_of_several.snooze()).count();
        assert_eq!((moments, one_of_several.was_crowded_out()), (20, false));
    };
    watched("busy", || {
        thread::scope(|scope| {
            scope.spawn(busy);
            scope.spawn(waiter);
        });
    });
}

#[test]
fn a_sleeper_uses_no_processor_time() {
    let (bell, doorbell) = (bell("idle"), Doorbell::new());
    let before = ticks();
    bell.prepare(&doorbell);
    bell.park(&doorbell, Some(Duration::from_secs(1)));
    // A tick is 10 ms: spinning would take 100.
    assert!(ticks() - before <= 10);
}

/// User and system time of this thread in clock ticks.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn many_yields_show_until_there_is_progress() {
    let mut backoff = Backoff::sharing(0, 100);
    let often = |backoff: &mut Backoff| backoff.snooze() && backoff.has_yielded_often();
    assert_eq!((0..40).position(|_| often(&mut backoff)), Some(31));
    backoff.reset();
    assert!(!often(&mut backoff));
}
