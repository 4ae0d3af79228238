//! Random programs of sends and receives against a sequential oracle of MPI's matching rules.
//!
//! A program is a list of rounds; its number is the seed, so every rank makes the same one. In a round each rank
//! first starts all its sends and some of its receives, then does the remaining receives by blocking calls and
//! probes, then completes the rest. All is started before anything blocks and every receive has its message, so no
//! program can hang in a correct runtime.
//!
//! The oracle needs to be told one thing, which the rules leave open: from whom a receive with `ANY_SOURCE` got its
//! message. Which message of that source it was, follows: the first that fits and is still unmatched. This is
//! independent of timing, since both sides of a pair are ordered and prefer what comes earlier.

#[path = "support/payload.rs"]
mod payload;
#[path = "support/random.rs"]
mod random;
#[path = "support/watchdog.rs"]
mod watchdog;

use payload::{check, filled};
use random::Random;
use ranks::{Request, Source, Status, Tag, World, spawn, wait_all, wait_any};
use watchdog::{step, watch};

const RANKS: usize = 3;
const ROUNDS: u64 = 300;
const MOST_MESSAGES: usize = 24;
const TAGS: usize = 4;
/// In words: nothing, within one cell, within the eager lane, at its likely borders, in parts, several chunks.
const LENGTHS: [usize; 14] = [0, 0, 1, 2, 5, 6, 7, 100, 512, 1025, 3000, 8192, 8193, 50_000];

/// What a rank receives: a vector or buffer, and the status.
type Received = (Vec<u64>, Status);

#[derive(Debug, Clone, Copy)]
struct Message {
    id: u64,
    source: usize,
    to: usize,
    tag: Tag,
    words: usize,
    synchronous: bool,
}

/// How a receive is carried out. The first two are started and completed later, the others block.
#[derive(Debug, Clone, Copy)]
enum Way {
    Irecv,
    IrecvInto,
    Recv,
    RecvVec,
    ProbeThenRecv,
    PollThenRecv,
    MatchedProbe,
}

const STARTED: [Way; 2] = [Way::Irecv, Way::IrecvInto];
const BLOCKING: [Way; 5] =
    [Way::Recv, Way::RecvVec, Way::ProbeThenRecv, Way::PollThenRecv, Way::MatchedProbe];

#[derive(Debug, Clone, Copy)]
enum Action {
    Send(Message),
    Receive(Source, Way),
}

/// Which wildcards the receives of a round use.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wildcards {
    /// Any tag now and then, from a certain source.
    Tags,
    /// Any source for even tags, a certain source for odd ones: no receive can take another one's last message.
    SourcesOfEvenTags,
    /// Any source and any tag, always.
    Everything,
}

/// One round: what each rank does, in order.
struct Round {
    wildcards: Wildcards,
    actions: Vec<Vec<Action>>,
}

impl Round {
    fn new(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let wildcards =
            random.choose(&[Wildcards::Tags, Wildcards::SourcesOfEvenTags, Wildcards::Everything]);
        let count = random.below(MOST_MESSAGES + 1);
        let messages: Vec<_> = (0..count).map(|index| message(random, seed * 1000 + index as u64)).collect();
        let actions = (0..RANKS).map(|rank| actions(random, wildcards, &messages, rank)).collect();
        Self { wildcards, actions }
    }

    fn messages_to(&self, rank: usize) -> Vec<Message> {
        let sent = self.actions.iter().flatten().filter_map(|action| match action {
            Action::Send(message) if message.to == rank => Some(*message),
            _ => None,
        });
        sent.collect()
    }

    fn receives(&self, rank: usize) -> impl Iterator<Item = Source> {
        self.actions[rank].iter().filter_map(|action| match action {
            Action::Receive(from, _) => Some(*from),
            Action::Send(_) => None,
        })
    }
}

fn message(random: &mut Random, id: u64) -> Message {
    Message {
        id,
        source: random.below(RANKS),
        to: random.below(RANKS),
        tag: random.below(TAGS) as Tag,
        words: random.choose(&LENGTHS),
        synchronous: random.below(8) == 0,
    }
}

/// Sends and started receives in a random mixture, then the blocking receives.
fn actions(random: &mut Random, wildcards: Wildcards, messages: &[Message], rank: usize) -> Vec<Action> {
    let sends = messages.iter().filter(|message| message.source == rank);
    let mut sends: Vec<_> = sends.map(|&message| Action::Send(message)).collect();
    let sources = sources(random, wildcards, messages, rank);
    let started = random.below(sources.len() + 1);
    let mut early = Vec::new();
    for &from in &sources[..started] {
        early.push(Action::Receive(from, random.choose(&STARTED)));
    }
    let mut all = merge(random, &mut sends, &mut early);
    for &from in &sources[started..] {
        all.push(Action::Receive(from, random.choose(&BLOCKING)));
    }
    all
}

/// A random mixture of two lists that keeps the order of each.
fn merge<T>(random: &mut Random, first: &mut Vec<T>, second: &mut Vec<T>) -> Vec<T> {
    let mut from_first: Vec<_> = (0..first.len() + second.len()).map(|index| index < first.len()).collect();
    random.shuffle(&mut from_first);
    let (mut first, mut second) = (first.drain(..), second.drain(..));
    from_first.iter().filter_map(|&take| if take { first.next() } else { second.next() }).collect()
}

/// What `rank` asks for, in order: one receive for each message sent to it, and whatever order the messages come in,
/// no receive is left without one.
fn sources(random: &mut Random, wildcards: Wildcards, messages: &[Message], rank: usize) -> Vec<Source> {
    let mut unmatched = Oracle::new(messages.iter().filter(|message| message.to == rank).copied().collect());
    let mut sources = Vec::new();
    while !unmatched.messages.is_empty() {
        let Message { source, tag, .. } = random.choose(&unmatched.messages);
        let from = match wildcards {
            Wildcards::Tags => Source { rank: Some(source), tag: Some(tag).filter(|_| random.below(3) > 0) },
            Wildcards::SourcesOfEvenTags => {
                Source { rank: Some(source).filter(|_| tag % 2 == 1), tag: Some(tag) }
            }
            Wildcards::Everything => Source { rank: None, tag: None },
        };
        unmatched.take(from).expect("the chosen message fits");
        sources.push(from);
    }
    sources
}

/// The messages sent to a rank that no receive has matched yet, in the order in which they were sent.
struct Oracle {
    messages: Vec<Message>,
}

impl Oracle {
    fn new(messages: Vec<Message>) -> Self {
        Self { messages }
    }

    /// Matches a receive: removes the first message that fits.
    fn take(&mut self, from: Source) -> Option<Message> {
        let fits = |message: &Message| {
            from.rank.is_none_or(|rank| rank == message.source)
                && from.tag.is_none_or(|tag| tag == message.tag)
        };
        let index = self.messages.iter().position(fits)?;
        Some(self.messages.remove(index))
    }
}

/// Carries out this rank's part of a round; gives what its receives got, in the order in which they were posted.
fn run(world: &World, seed: u64, round: &Round) -> Vec<Received> {
    let (mut sends, mut requests, mut posted) = (Vec::new(), Vec::new(), Vec::new());
    let mut received: Vec<Option<Received>> = Vec::new();
    for action in &round.actions[world.rank()] {
        step(format!("seed {seed}: {action:?}"));
        match *action {
            Action::Send(message) => sends.push(send(world, message)),
            Action::Receive(from, way) => {
                let request = start(world, from, way);
                received.push(if request.is_none() { Some(receive(world, from, way)) } else { None });
                posted.extend(request.is_some().then(|| received.len() - 1));
                requests.extend(request);
            }
        }
    }
    step(format!("seed {seed}: completes {} receives", requests.len()));
    while !requests.is_empty() {
        let (index, got) = wait_any(&mut requests).unwrap();
        received[posted.remove(index)] = Some(got);
    }
    step(format!("seed {seed}: completes {} sends", sends.len()));
    wait_all(sends).unwrap();
    received.into_iter().flatten().collect()
}

fn send(world: &World, message: Message) -> Request<'_, Vec<u64>> {
    let (data, to) = (filled(message.id, message.words), (message.to, message.tag));
    if message.synchronous { world.synchronous_isend(data, to) } else { world.isend(data, to) }.unwrap()
}

fn longest() -> Vec<u64> {
    vec![0; LENGTHS[LENGTHS.len() - 1]]
}

/// Starts a receive, if `way` is one that is completed later.
fn start(world: &World, from: Source, way: Way) -> Option<Request<'_, Received>> {
    match way {
        Way::Irecv => Some(world.irecv(from).unwrap()),
        Way::IrecvInto => Some(world.irecv_into(longest(), from).unwrap()),
        _ => None,
    }
}

fn receive(world: &World, from: Source, way: Way) -> Received {
    let mut buffer = longest();
    match way {
        Way::Recv => {
            let status = world.recv(&mut buffer, from).unwrap();
            (buffer, status)
        }
        Way::ProbeThenRecv => receive_probed(world, world.probe(from).unwrap()),
        Way::PollThenRecv => loop {
            if let Some(status) = world.try_probe(from).unwrap() {
                break receive_probed(world, status);
            }
            std::thread::yield_now();
        },
        Way::MatchedProbe => world.matched_probe(from).unwrap().recv_vec().unwrap(),
        Way::RecvVec | Way::Irecv | Way::IrecvInto => world.recv_vec(from).unwrap(),
    }
}

/// Receives what a probe has shown into a buffer of exactly that size.
fn receive_probed(world: &World, shown: Status) -> Received {
    let mut buffer = vec![0; shown.count::<u64>()];
    let status = world.recv(&mut buffer, (shown.source, shown.tag)).unwrap();
    assert_eq!(status, shown, "the message that the probe showed");
    (buffer, status)
}

/// Asserts that every receive of `rank` got the message that the rules say.
fn compare(rank: usize, seed: u64, round: &Round, received: &[Received]) {
    let mut oracle = Oracle::new(round.messages_to(rank));
    for (number, (from, (data, status))) in round.receives(rank).zip(received).enumerate() {
        let place = format!("seed {seed}, rank {rank}, receive {number} {from:?}: {status:?}");
        let told = Source { rank: from.rank.or(Some(status.source)), tag: from.tag };
        let expected = oracle.take(told).unwrap_or_else(|| panic!("{place}: no such message is left"));
        let words = status.count::<u64>();
        assert_eq!(
            (status.source, status.tag, words),
            (expected.source, expected.tag, expected.words),
            "{place}"
        );
        step(format!("{place}: looks at the contents"));
        check(&data[..words], expected.id);
    }
    assert!(oracle.messages.is_empty(), "seed {seed}, rank {rank}: never received: {:?}", oracle.messages);
}

#[test]
fn random_programs_match_as_the_oracle_says() {
    spawn(RANKS, |world| {
        watch(world);
        for seed in 0..ROUNDS {
            let round = Round::new(seed);
            // A receive from any source must not take a message of the next round, nor of the one before.
            if round.wildcards != Wildcards::Tags {
                world.barrier().unwrap();
            }
            let received = run(world, seed, &round);
            compare(world.rank(), seed, &round, &received);
            if round.wildcards != Wildcards::Tags {
                world.barrier().unwrap();
            }
        }
    })
    .unwrap();
}
