//! Every interleaving of a lane's two sides, on the heap: no overlapping access, no lost or mixed chunk, no hang.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p shm-core --release --test 'loom_*'`
#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use shm_core::channel::lane::{Consumer, Envelope, LaneHeader, Producer};
use shm_core::sync::UnsafeCell;
use shm_core::wait::wait_until;
use shm_core::{Backoff, Bell, Doorbell};

const CAPACITY: usize = 2;
const PRODUCER: usize = 0;
const CONSUMER: usize = 1;

struct Shared {
    header: LaneHeader,
    buffer: [UnsafeCell<u8>; CAPACITY],
    bells: [Bell; 2],
    doorbells: [Doorbell; 2],
}

#[allow(
    unsafe_code,
    reason = "the lane's protocol keeps accesses to the cells apart, which the model checks"
)]
// SAFETY: the cells are accessed through one producer and one consumer only.
unsafe impl Sync for Shared {}

fn shared() -> Arc<Shared> {
    let bell = || Bell::create("model").expect("nothing can fail in a model");
    Arc::new(Shared {
        header: LaneHeader::new(),
        buffer: [UnsafeCell::new(0), UnsafeCell::new(0)],
        bells: [bell(), bell()],
        doorbells: [Doorbell::new(), Doorbell::new()],
    })
}

impl Shared {
    #[allow(unsafe_code, reason = "the lane asks for a promise")]
    fn producer(&self) -> Producer<'_> {
        // SAFETY: each model has one thread that produces.
        unsafe { Producer::new(&self.header, &self.buffer) }
    }

    #[allow(unsafe_code, reason = "the lane asks for a promise")]
    fn consumer(&self) -> Consumer<'_> {
        // SAFETY: each model has one thread that consumes.
        unsafe { Consumer::new(&self.header, &self.buffer) }
    }

    fn wait<T>(&self, side: usize, condition: impl FnMut() -> Option<T>) -> T {
        let (bell, doorbell) = (&self.bells[side], &self.doorbells[side]);
        let forever = || Ok::<_, std::convert::Infallible>(None);
        wait_until(bell, doorbell, Backoff::new(0, 0), condition, forever).expect("nothing interrupts")
    }

    fn send(&self, number: u64, message: &[u8]) {
        let mut producer = self.producer();
        for offset in (0..message.len().max(1)).step_by(CAPACITY) {
            let total = message.len() as u64;
            let envelope = Envelope { message: number, total, offset: offset as u64, answers: 0 };
            self.wait(PRODUCER, || producer.is_empty().then_some(()));
            assert!(producer.try_put(envelope, message));
            self.bells[CONSUMER].ring(&self.doorbells[CONSUMER]);
        }
    }

    fn receive(&self, number: u64) -> Vec<u8> {
        let mut consumer = self.consumer();
        let mut message = Vec::new();
        loop {
            let envelope = self.wait(CONSUMER, || consumer.peek());
            assert_eq!((envelope.message, envelope.offset), (number, message.len() as u64));
            assert!(consumer.take(envelope, &mut message));
            self.bells[PRODUCER].ring(&self.doorbells[PRODUCER]);
            if message.len() as u64 == envelope.total {
                return message;
            }
        }
    }
}

#[test]
fn a_message_arrives_whole() {
    loom::model(|| {
        let shared = shared();
        let producer = {
            let shared = shared.clone();
            thread::spawn(move || shared.send(1, b"ab"))
        };
        assert_eq!(shared.receive(1), b"ab");
        producer.join().unwrap();
    });
}

#[test]
fn the_second_message_waits_for_the_first_to_be_taken() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = shared();
        let producer = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.send(1, b"a");
                shared.send(2, b"");
            })
        };
        assert_eq!(shared.receive(1), b"a");
        assert_eq!(shared.receive(2), b"");
        producer.join().unwrap();
    });
}

#[test]
fn a_long_message_is_paged_through() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = shared();
        let producer = {
            let shared = shared.clone();
            thread::spawn(move || shared.send(7, b"abc"))
        };
        assert_eq!(shared.receive(7), b"abc");
        producer.join().unwrap();
    });
}

#[test]
fn looks_that_do_not_wait_see_nothing_or_all() {
    loom::model(|| {
        let shared = shared();
        let producer = {
            let shared = shared.clone();
            thread::spawn(move || {
                let envelope = |message| Envelope { message, total: 2, offset: 0, answers: 0 };
                let first = shared.producer().try_put(envelope(1), b"ab");
                let second = shared.producer().try_put(envelope(2), b"cd");
                (first, second)
            })
        };
        let mut consumer = shared.consumer();
        let mut taken = Vec::new();
        if let Some(envelope) = consumer.peek() {
            assert!(consumer.take(envelope, &mut taken));
        }
        let (first, second) = producer.join().unwrap();
        assert!(first);
        assert!(taken == b"ab" || (taken.is_empty() && !second), "{taken:?} {second}");
        assert_eq!(
            consumer.peek().map(|envelope| envelope.message),
            match (taken.is_empty(), second) {
                (true, _) => Some(1),
                (false, true) => Some(2),
                (false, false) => None,
            }
        );
    });
}
