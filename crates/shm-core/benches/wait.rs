//! Parking and waking: what a ring costs while nobody sleeps, and what a sleep costs.

mod common;

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;

use common::{Core, Stop, pin, warm_up, with_partner};
use divan::Bencher;
use shm_core::{Bell, Doorbell};

fn main() {
    divan::main();
}

/// A waiter: its doorbell, and the word that it waits for.
struct Waiter {
    bell: Bell,
    doorbell: Doorbell,
    word: AtomicU32,
}

impl Waiter {
    fn new(label: &str) -> Self {
        let name = format!("/b{}.{label}", std::process::id());
        let bell = Bell::create(&name).expect("the name is free");
        Bell::unlink(&name).expect("the name is ours");
        Self { bell, doorbell: Doorbell::new(), word: AtomicU32::new(0) }
    }

    fn publish(&self, value: u32) {
        self.word.store(value, Release);
        self.bell.ring(&self.doorbell);
    }

    /// Sleeps, without looking long before it, until the word is no longer `seen`.
    fn await_change(&self, seen: u32) -> u32 {
        loop {
            self.bell.prepare(&self.doorbell);
            let value = self.word.load(Acquire);
            if value != seen {
                self.bell.cancel(&self.doorbell);
                return value;
            }
            self.bell.park(&self.doorbell, None);
        }
    }
}

/// Ringing where nobody sleeps: what every publication costs.
#[divan::bench]
fn ring_awake(bencher: Bencher<'_, '_>) {
    let waiter = Waiter::new("ring");
    bencher.bench_local(|| waiter.publish(1));
}

/// The same without the fence.
#[divan::bench]
fn nudge_awake(bencher: Bencher<'_, '_>) {
    let waiter = Waiter::new("nudge");
    bencher.bench_local(|| {
        waiter.word.store(1, Release);
        waiter.bell.nudge(&waiter.doorbell);
    });
}

/// Announcing a sleep and taking that back.
#[divan::bench]
fn prepare_and_cancel(bencher: Bencher<'_, '_>) {
    let waiter = Waiter::new("prepare");
    bencher.bench_local(|| {
        waiter.bell.prepare(&waiter.doorbell);
        waiter.bell.cancel(&waiter.doorbell);
    });
}

/// A wake-up of the other thread and one back, where both sleep in between.
fn wake_there_and_back(bencher: Bencher<'_, '_>, partner_core: Core) {
    let (here, there, stop) = (Waiter::new("here"), Waiter::new("there"), Stop::default());
    thread::scope(|scope| {
        let mut seen = 0;
        let (waiter, answer) = (&there, &here);
        let partner = with_partner(scope, &stop, move || {
            pin(partner_core);
            seen = waiter.await_change(seen);
            answer.publish(seen);
        });
        let mut sent = 0;
        let mut wake = || {
            there.publish(sent + 1);
            sent = here.await_change(sent);
        };
        warm_up(&mut wake);
        bencher.bench_local(&mut wake);
        // It sleeps: first it is told, then woken.
        drop(partner);
        there.publish(sent + 1);
    });
}

#[divan::bench]
fn wake_on_another_core(bencher: Bencher<'_, '_>) {
    wake_there_and_back(bencher, Core::Partner);
}

#[divan::bench]
fn wake_on_the_same_core(bencher: Bencher<'_, '_>) {
    wake_there_and_back(bencher, Core::Measured);
}
