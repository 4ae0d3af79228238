//! Every interleaving of waiting and ringing. A lost wake-up shows as a deadlock: in a model no time passes.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p shm-core --release --test 'loom_*'`
#![cfg(loom)]

use std::time::Duration;

use loom::sync::Arc;
use loom::sync::atomic::AtomicU32;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::thread;
use shm_core::wait::wait_until;
use shm_core::{Backoff, Bell, Doorbell};

struct Shared {
    bell: Bell,
    doorbell: Doorbell,
    data: AtomicU32,
    dead: AtomicU32,
}

fn shared() -> Arc<Shared> {
    let bell = Bell::create("model").expect("nothing can fail in a model");
    let (data, dead) = (AtomicU32::new(0), AtomicU32::new(0));
    Arc::new(Shared { bell, doorbell: Doorbell::new(), data, dead })
}

impl Shared {
    /// Parks at once: spinning adds interleavings, not behaviours.
    fn wait_for_data(&self, wanted: u32) -> Result<u32, &'static str> {
        let condition = || Some(self.data.load(Acquire)).filter(|data| *data >= wanted);
        let interrupt = || match self.dead.load(Acquire) {
            0 => Ok(Some(Duration::from_millis(250))),
            _ => Err("dead"),
        };
        wait_until(&self.bell, &self.doorbell, Backoff::new(0, 0), condition, interrupt)
    }

    fn publish(&self, value: u32) {
        self.data.store(value, Release);
        self.bell.ring(&self.doorbell);
    }
}

#[test]
fn a_ring_is_never_lost() {
    loom::model(|| {
        let shared = shared();
        let publisher = {
            let shared = shared.clone();
            thread::spawn(move || shared.publish(1))
        };
        assert_eq!(shared.wait_for_data(1), Ok(1));
        publisher.join().unwrap();
    });
}

#[test]
fn the_second_of_two_rings_is_not_lost_either() {
    // Without the bound this takes over a minute; it has passed so, too.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(|| {
        let shared = shared();
        let publisher = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.publish(1);
                shared.publish(2);
            })
        };
        assert!(shared.wait_for_data(1).is_ok());
        assert_eq!(shared.wait_for_data(2), Ok(2));
        publisher.join().unwrap();
    });
}

#[test]
fn two_ringers_wake_one_sleeper() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = shared();
        let ringers = [(); 2].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.data.fetch_add(1, Release);
                shared.bell.ring(&shared.doorbell);
            })
        });
        assert_eq!(shared.wait_for_data(2), Ok(2));
        ringers.into_iter().for_each(|ringer| ringer.join().unwrap());
    });
}

/// The ringer dies after changing the word, before waking: only the notice of a third party ends the sleep.
#[test]
fn a_death_notice_ends_the_sleep_that_a_dead_ringer_left() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = shared();
        let ringer = {
            let shared = shared.clone();
            // `cancel` is the half of a ring that changes the word.
            thread::spawn(move || shared.bell.cancel(&shared.doorbell))
        };
        let watcher = {
            let shared = shared.clone();
            thread::spawn(move || {
                ringer.join().unwrap();
                shared.dead.store(1, Release);
                shared.bell.notify(&shared.doorbell);
            })
        };
        assert_eq!(shared.wait_for_data(1), Err("dead"));
        watcher.join().unwrap();
    });
}

/// What was published before the death is received, in whatever order ring and notice arrive.
#[test]
fn a_publication_before_the_death_is_received() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = shared();
        let publisher = {
            let shared = shared.clone();
            thread::spawn(move || shared.publish(1))
        };
        let watcher = {
            let shared = shared.clone();
            thread::spawn(move || {
                publisher.join().unwrap();
                shared.dead.store(1, Release);
                shared.bell.notify(&shared.doorbell);
            })
        };
        assert_eq!(shared.wait_for_data(1), Ok(1));
        watcher.join().unwrap();
        assert_eq!(shared.data.load(Relaxed), 1);
    });
}

/// Two that wait for each other in turn, and one that looks whether both sleep.
mod asleep {
    use super::*;

    struct Pair {
        bells: [(Bell, Doorbell); 2],
        said: [AtomicU32; 2],
    }

    impl Pair {
        fn new() -> Self {
            let bell = || (Bell::create("model").expect("nothing can fail in a model"), Doorbell::new());
            Self { bells: [bell(), bell()], said: [AtomicU32::new(0), AtomicU32::new(0)] }
        }

        fn say(&self, me: usize, word: u32) {
            self.said[me].store(word, Release);
            let (bell, doorbell) = &self.bells[1 - me];
            bell.ring(doorbell);
        }

        fn hear(&self, me: usize, word: u32) {
            let (bell, doorbell) = &self.bells[me];
            let condition = || (self.said[1 - me].load(Acquire) == word).then_some(());
            wait_until(bell, doorbell, Backoff::new(0, 0), condition, || Ok::<_, ()>(None)).unwrap();
        }

        /// First at the second: it may fall asleep before the first has spoken.
        fn look(&self) -> Option<[u32; 2]> {
            Some([self.bells[1].1.asleep()?, self.bells[0].1.asleep()?])
        }
    }

    /// The first speaks and the second answers, `words` times. Never do both sleep with nothing on its way.
    fn watched(words: u32, preemptions: usize, both_asleep: fn(&Pair) -> bool) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(preemptions);
        model.check(move || {
            let pair = Arc::new(Pair::new());
            let first = {
                let pair = pair.clone();
                thread::spawn(move || {
                    for word in 1..=words {
                        pair.say(0, word);
                        pair.hear(0, word);
                    }
                })
            };
            let watcher = {
                let pair = pair.clone();
                thread::spawn(move || assert!(!both_asleep(&pair), "both sleep"))
            };
            for word in 1..=words {
                pair.hear(1, word);
                pair.say(1, word);
            }
            first.join().unwrap();
            watcher.join().unwrap();
        });
    }

    fn same_sleeps_twice(pair: &Pair) -> bool {
        pair.look().is_some_and(|first| pair.look() == Some(first))
    }

    #[test]
    fn two_looks_do_not_lie() {
        watched(1, 3, same_sleeps_twice);
    }

    #[test]
    fn two_looks_do_not_lie_about_sleepers_that_sleep_again() {
        watched(2, 2, same_sleeps_twice);
    }

    /// Why it takes two looks.
    #[test]
    #[should_panic = "both sleep"]
    fn one_look_lies() {
        watched(1, 3, |pair| pair.look().is_some());
    }
}
