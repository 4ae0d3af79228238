//! Random actions on a channel against the simplest possible model of it: an optional message.
#![cfg(not(loom))]

mod common;

use proptest::prelude::*;
use shm_core::channel::{Channel, ChannelError, Consumer, Options, Publisher};

const CAPACITY: usize = 10;

#[derive(Debug, Clone)]
enum Action {
    Publish(Vec<u8>),
    Receive,
    /// The publisher leaves and another one comes.
    ReplacePublisher,
    ReplaceConsumer,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..CAPACITY + 3).prop_map(Action::Publish),
        6 => Just(Action::Receive),
        1 => Just(Action::ReplacePublisher),
        1 => Just(Action::ReplaceConsumer),
    ]
}

/// The model: what has been published and not consumed, and who has yet to hear of a departure.
#[derive(Default)]
struct Model {
    message: Option<Vec<u8>>,
    publisher_hears: bool,
    consumer_hears: bool,
}

fn publish(publisher: &mut Publisher, model: &mut Model, message: &[u8]) {
    match publisher.try_publish(message) {
        Err(ChannelError::LongerThanCapacity { length, .. }) => {
            assert!(message.len() == length && length > CAPACITY);
        }
        Err(ChannelError::PeerGone { .. }) => assert!(std::mem::take(&mut model.publisher_hears)),
        Err(error) => panic!("{error}"),
        Ok(done) => {
            assert!(!model.publisher_hears && message.len() <= CAPACITY);
            assert_eq!(done, model.message.is_none());
            model.message.get_or_insert_with(|| message.to_vec());
        }
    }
}

fn receive(consumer: &mut Consumer, model: &mut Model) {
    match consumer.try_receive() {
        Err(ChannelError::PeerGone { .. }) => {
            assert!(std::mem::take(&mut model.consumer_hears) && model.message.is_none());
        }
        Err(error) => panic!("{error}"),
        Ok(received) => {
            assert!(received.is_some() || !model.consumer_hears);
            assert_eq!(received, model.message.take());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_one_optional_message(actions in prop::collection::vec(action(), 0..60)) {
        let name = common::name("prop");
        let options = Options::default().capacity(CAPACITY);
        let mut publisher = Some(Channel::create(&name, &options).unwrap().publisher().unwrap());
        let mut consumer = Some(Channel::open(&name).unwrap().consumer().unwrap());
        // The publisher has seen nobody yet; once it has been told of a peer it hears of its departure.
        let mut model = Model::default();
        for action in actions {
            match action {
                Action::Publish(message) => publish(publisher.as_mut().unwrap(), &mut model, &message),
                Action::Receive => receive(consumer.as_mut().unwrap(), &mut model),
                Action::ReplacePublisher => {
drop(publisher.take());
                    publisher = Some(Channel::open(&name).unwrap().publisher().unwrap());
                    model.publisher_hears = false;
                    model.consumer_hears = true;
                }
                Action::ReplaceConsumer => {
drop(consumer.take());
                    consumer = Some(Channel::open(&name).unwrap().consumer().unwrap());
                    model.consumer_hears = false;
                    model.publisher_hears = true;
                }
            }
        }
        drop((publisher, consumer));
        prop_assert_eq!(common::leftovers(&name), Vec::<String>::new());
    }

    #[test]
    fn any_lengths_pass_in_order(lengths in prop::collection::vec(0..5 * CAPACITY, 1..20)) {
        let name = common::name("order");
        let options = Options::default().capacity(CAPACITY);
        let mut publisher = Channel::create(&name, &options).unwrap().publisher().unwrap();
        let mut consumer = Channel::open(&name).unwrap().consumer().unwrap();
        let messages: Vec<_> = lengths.iter().zip(0..).map(|(length, n)| common::message(n, *length)).collect();
        let sent = messages.clone();
        let received: Vec<_> = std::thread::scope(|scope| {
            scope.spawn(move || {
                sent.iter().for_each(|message| publisher.publish(message).unwrap());
                publisher.flush().unwrap();
            });
            messages.iter().map(|_| consumer.receive().unwrap()).collect()
        });
        prop_assert_eq!(received, messages);
    }
}
