//! MPI's matching rules as plain data structures: posted receives and messages that came before them.
//!
//! A receive takes the earliest message that fits it; a message goes to the earliest receive that fits it.
//! "Earliest" is counted here, in the order of posting and of arrival; between two ranks the arrival order is
//! the order of sending, which makes messages non-overtaking.

use std::collections::VecDeque;

use crate::envelope::Envelope;

/// Which messages a receive accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pattern {
    pub(crate) context: u32,
    pub(crate) source: Option<usize>,
    pub(crate) tag: Option<i32>,
}

impl Pattern {
    #[inline]
    pub(crate) fn fits(&self, envelope: &Envelope) -> bool {
        self.context == envelope.context
            && self.source.is_none_or(|source| source == usize::from(envelope.source))
            && self.tag.is_none_or(|tag| tag == envelope.tag)
    }
}

/// Holes that are not worth the work of closing them.
const FEW_HOLES: usize = 32;

/// A queue whose items leave from anywhere. Removed items leave a hole that costs nothing once it reaches the
/// front: messages mostly leave in order.
#[derive(Debug)]
struct Line<T> {
    items: VecDeque<Option<T>>,
    live: usize,
}

impl<T> Line<T> {
    fn new() -> Self {
        Self { items: VecDeque::new(), live: 0 }
    }

    fn push(&mut self, item: T) {
        self.items.push_back(Some(item));
        self.live += 1;
    }

    fn find(&self, mut fits: impl FnMut(&T) -> bool) -> Option<(usize, &T)> {
        if self.live == 0 {
            return None;
        }
        let occupied = self.items.iter().enumerate().filter_map(|(at, item)| Some((at, item.as_ref()?)));
        occupied.into_iter().find(|(_, item)| fits(item))
    }

    fn take(&mut self, at: usize) -> Option<T> {
        let item = self.items[at].take();
        self.live -= usize::from(item.is_some());
        while let Some(None) = self.items.front() {
            self.items.pop_front();
        }
        while let Some(None) = self.items.back() {
            self.items.pop_back();
        }
        // An item that stays for long must not keep the holes behind it: they cost memory and every search.
        if self.items.len() > 2 * self.live + FEW_HOLES {
            self.items.retain(Option::is_some);
        }
        item
    }
}

/// Receives that wait for their message. `R` names the receive.
#[derive(Debug)]
pub(crate) struct Posted<R> {
    by_source: Vec<Line<Entry<R>>>,
    any_source: Line<Entry<R>>,
    next: u64,
    live: usize,
}

#[derive(Debug)]
struct Entry<R> {
    order: u64,
    pattern: Pattern,
    receive: R,
}

impl<R: Copy + PartialEq> Posted<R> {
    pub(crate) fn new(ranks: usize) -> Self {
        let by_source = (0..ranks).map(|_| Line::new()).collect();
        Self { by_source, any_source: Line::new(), next: 0, live: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live == 0
    }

    pub(crate) fn post(&mut self, pattern: Pattern, receive: R) {
        let entry = Entry { order: self.next, pattern, receive };
        self.next += 1;
        self.live += 1;
        self.line(pattern.source).push(entry);
    }

    /// Removes and returns the earliest receive that accepts the message.
    pub(crate) fn take_match(&mut self, envelope: &Envelope) -> Option<R> {
        if self.live == 0 {
            return None;
        }
        let source = usize::from(envelope.source);
        let from_source = first(&self.by_source[source], envelope);
        let from_any = first(&self.any_source, envelope);
        let (line, at) = match (from_source, from_any) {
            (Some((at, order)), Some((_, other))) if order < other => (&mut self.by_source[source], at),
            (Some((at, _)), None) => (&mut self.by_source[source], at),
            (_, Some((at, _))) => (&mut self.any_source, at),
            (None, None) => return None,
        };
        self.live -= 1;
        line.take(at).map(|entry| entry.receive)
    }

    /// Removes a receive that has not been matched; false if it is not there.
    pub(crate) fn cancel(&mut self, source: Option<usize>, receive: R) -> bool {
        let line = self.line(source);
        let Some((at, _)) = line.find(|entry| entry.receive == receive) else { return false };
        line.take(at);
        self.live -= 1;
        true
    }

    /// The receives that only `source` could satisfy.
    pub(crate) fn waiting_for(&self, source: usize) -> Vec<R> {
        self.by_source[source].items.iter().flatten().map(|entry| entry.receive).collect()
    }

    /// Whether a receive that accepts the message is posted.
    pub(crate) fn has_match(&self, envelope: &Envelope) -> bool {
        let source = usize::from(envelope.source);
        first(&self.by_source[source], envelope).is_some() || first(&self.any_source, envelope).is_some()
    }

    fn line(&mut self, source: Option<usize>) -> &mut Line<Entry<R>> {
        match source {
            Some(rank) => &mut self.by_source[rank],
            None => &mut self.any_source,
        }
    }
}

fn first<R>(line: &Line<Entry<R>>, envelope: &Envelope) -> Option<(usize, u64)> {
    let (at, entry) = line.find(|entry| entry.pattern.fits(envelope))?;
    Some((at, entry.order))
}

/// Messages that arrived before their receive. `M` is what is kept of the message.
#[derive(Debug)]
pub(crate) struct Unexpected<M> {
    by_source: Vec<Line<Arrival<M>>>,
    next: u64,
    live: usize,
}

#[derive(Debug)]
struct Arrival<M> {
    order: u64,
    envelope: Envelope,
    message: M,
}

impl<M> Unexpected<M> {
    pub(crate) fn new(ranks: usize) -> Self {
        Self { by_source: (0..ranks).map(|_| Line::new()).collect(), next: 0, live: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live == 0
    }

    pub(crate) fn push(&mut self, envelope: Envelope, message: M) {
        let arrival = Arrival { order: self.next, envelope, message };
        self.next += 1;
        self.live += 1;
        self.by_source[usize::from(envelope.source)].push(arrival);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// How many there have ever been.
    pub(crate) fn arrived(&self) -> u64 {
        self.next
    }

    /// All of them, by source, each source's in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Envelope> {
        let arrivals = self.by_source.iter().flat_map(|line| line.items.iter().flatten());
        arrivals.map(|arrival| &arrival.envelope)
    }

    /// The earliest message that fits, which stays where it is.
    pub(crate) fn peek(&self, pattern: &Pattern) -> Option<(&Envelope, &M)> {
        let (source, at) = self.locate(pattern)?;
        self.by_source[source].items[at].as_ref().map(|arrival| (&arrival.envelope, &arrival.message))
    }

    /// Removes and returns the earliest message that fits.
    pub(crate) fn take(&mut self, pattern: &Pattern) -> Option<(Envelope, M)> {
        let (source, at) = self.locate(pattern)?;
        self.live -= 1;
        self.by_source[source].take(at).map(|arrival| (arrival.envelope, arrival.message))
    }

    fn locate(&self, pattern: &Pattern) -> Option<(usize, usize)> {
        if self.live == 0 {
            return None;
        }
        let sources = match pattern.source {
            Some(rank) => rank..rank + 1,
            None => 0..self.by_source.len(),
        };
        let first_of = |source: usize| {
            let (at, arrival) = self.by_source[source].find(|arrival| pattern.fits(&arrival.envelope))?;
            Some((arrival.order, source, at))
        };
        let (_, source, at) = sources.filter_map(first_of).min()?;
        Some((source, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RANKS: usize = 3;

    fn envelope(context: u32, source: usize, tag: i32) -> Envelope {
        let source = source as u16;
        Envelope { flags: 0, context, source, call_site: 0, tag, element_type: 0, length: 0 }
    }

    #[derive(Debug, Clone)]
    enum Action {
        Arrive(Envelope),
        Receive(Pattern),
        CancelOldest,
    }

    fn action() -> impl Strategy<Value = Action> {
        let message = (0..2u32, 0..RANKS, 0..3i32).prop_map(|(c, s, t)| Action::Arrive(envelope(c, s, t)));
        let pattern = (0..2u32, prop::option::of(0..RANKS), prop::option::of(0..3i32));
        let receive =
            pattern.prop_map(|(context, source, tag)| Action::Receive(Pattern { context, source, tag }));
        prop_oneof![4 => message, 4 => receive, 1 => Just(Action::CancelOldest)]
    }

    /// The rules as a sentence: look at everything from the oldest on and take the first that fits.
    #[derive(Default)]
    struct Oracle {
        posted: Vec<(Pattern, usize)>,
        arrived: Vec<(Envelope, usize)>,
    }

    /// One receive that stays posted must not make the others behind it slower and slower.
    #[test]
    fn holes_behind_an_old_item_are_closed() {
        let mut posted = Posted::new(RANKS);
        let pattern = |tag| Pattern { context: 0, source: Some(1), tag: Some(tag) };
        posted.post(pattern(7), 0);
        posted.post(pattern(8), 1);
        for number in 2..10_000 {
            posted.post(pattern(1), number);
            posted.post(pattern(1), number + 10_000);
            assert_eq!(posted.take_match(&envelope(0, 1, 1)), Some(number));
            assert_eq!(posted.take_match(&envelope(0, 1, 1)), Some(number + 10_000));
            assert!(posted.by_source[1].items.len() <= 2 * posted.live + FEW_HOLES + 2);
        }
    }

    proptest! {
        #[test]
        fn matches_like_the_oracle(actions in prop::collection::vec(action(), 0..200)) {
            let mut oracle = Oracle::default();
            let mut posted = Posted::new(RANKS);
            let mut unexpected = Unexpected::new(RANKS);
            for (number, action) in actions.into_iter().enumerate() {
                match action {
                    Action::Arrive(envelope) => {
                        let at = oracle.posted.iter().position(|(pattern, _)| pattern.fits(&envelope));
                        let expected = at.map(|at| oracle.posted.remove(at).1);
                        prop_assert_eq!(posted.take_match(&envelope), expected);
                        if expected.is_none() {
                            oracle.arrived.push((envelope, number));
                            unexpected.push(envelope, number);
                        }
                    }
                    Action::Receive(pattern) => {
                        let at = oracle.arrived.iter().position(|(envelope, _)| pattern.fits(envelope));
                        let expected = at.map(|at| oracle.arrived.remove(at));
                        prop_assert_eq!(unexpected.peek(&pattern), expected.as_ref().map(|(e, m)| (e, m)));
                        prop_assert_eq!(unexpected.take(&pattern), expected);
                        if expected.is_none() {
                            oracle.posted.push((pattern, number));
                            posted.post(pattern, number);
                        }
                    }
                    Action::CancelOldest if !oracle.posted.is_empty() => {
                        let (pattern, receive) = oracle.posted.remove(0);
                        prop_assert!(posted.cancel(pattern.source, receive));
                        prop_assert!(!posted.cancel(pattern.source, receive));
                    }
                    Action::CancelOldest => {}
                }
                prop_assert_eq!(posted.is_empty(), oracle.posted.is_empty());
                prop_assert_eq!(unexpected.is_empty(), oracle.arrived.is_empty());
            }
        }
    }
}
