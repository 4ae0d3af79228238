//! MPI's matching rules as plain data structures: posted receives and messages that came before them.
//!
//! A receive takes the earliest message that fits it; a message goes to the earliest receive that fits it.
//! "Earliest" is counted here, in the order of posting and of arrival; between two ranks the arrival order is
//! the order of sending, which makes messages non-overtaking.

use std::collections::VecDeque;

use shm_core::ring::CELL_WORDS;

use crate::envelope::Envelope;

/// Which messages a receive accepts. Two words, which travel in registers: three short fields are written to memory one
/// by one and read back as one, which stalls the processor for longer than the rest of a match takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// Context and tag, as in [`key`].
    key: u64,
    source: u32,
}

/// No rank has this number.
const ANY_SOURCE: u32 = u32::MAX;
/// Tags are not negative.
const ANY_TAG: i32 = -1;

/// What matching compares besides the source.
#[inline]
fn key(context: u32, tag: i32) -> u64 {
    u64::from(context) | u64::from(tag as u32) << 32
}

impl Pattern {
    /// Messages of a context, from `source` or any rank, with `tag` or any tag.
    #[inline]
    pub(crate) fn new(context: u32, source: Option<usize>, tag: Option<i32>) -> Self {
        let source = source.map_or(ANY_SOURCE, |rank| rank as u32);
        Self { key: key(context, tag.unwrap_or(ANY_TAG)), source }
    }

    #[inline]
    pub(crate) fn context(&self) -> u32 {
        self.key as u32
    }

    #[inline]
    pub(crate) fn source(&self) -> Option<usize> {
        (self.source != ANY_SOURCE).then_some(self.source as usize)
    }

    #[inline]
    pub(crate) fn tag(&self) -> Option<i32> {
        let tag = (self.key >> 32) as i32;
        (tag != ANY_TAG).then_some(tag)
    }

    /// Which bits of a message's key must be those of this one.
    #[inline]
    fn mask(&self) -> u64 {
        if self.tag().is_none() { u64::from(u32::MAX) } else { u64::MAX }
    }

    /// [`Pattern::fits`] of a message from `source` with elements of this type, by the words of its cell.
    #[inline(always)]
    pub(crate) fn fits_words(&self, words: &[u64; CELL_WORDS], source: usize, element_type: u32) -> bool {
        /// All but the call site.
        const ORIGIN: u64 = u64::MAX >> 16;
        let origin = u64::from(self.context()) | (source as u64) << 32;
        let content = self.key >> 32 | u64::from(element_type) << 32;
        let mask = if self.tag().is_none() { u64::from(u32::MAX) << 32 } else { u64::MAX };
        (words[0] ^ origin) & ORIGIN == 0 && (words[1] ^ content) & mask == 0
    }

    #[inline]
    pub(crate) fn fits(&self, envelope: &Envelope) -> bool {
        let differs = (self.key ^ key(envelope.context, envelope.tag)) & self.mask();
        differs == 0 && (self.source == u32::from(envelope.source) || self.source == ANY_SOURCE)
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

    #[inline]
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

    /// Removes the first item if it fits. The line never begins with a hole.
    #[inline]
    fn take_front(&mut self, fits: impl FnOnce(&T) -> bool) -> Option<T> {
        if !self.items.front().is_some_and(|item| item.as_ref().is_some_and(fits)) {
            return None;
        }
        self.live -= 1;
        let item = self.items.pop_front().flatten();
        self.close_front();
        item
    }

    #[inline]
    fn close_front(&mut self) {
        while let Some(None) = self.items.front() {
            self.items.pop_front();
        }
    }

    fn take(&mut self, at: usize) -> Option<T> {
        let item = self.items[at].take();
        self.live -= usize::from(item.is_some());
        self.close_front();
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

/// A posted receive, without its source: the line that it stands in says that.
#[derive(Debug)]
struct Entry<R> {
    /// Context and tag; no tag if any will do.
    key: u64,
    mask: u64,
    order: u64,
    receive: R,
}

impl<R> Entry<R> {
    /// Whether it accepts a message of that key from the source of its line.
    #[inline]
    fn fits(&self, key: u64) -> bool {
        self.key == key & self.mask
    }
}

impl<R: Copy + PartialEq> Posted<R> {
    pub(crate) fn new(ranks: usize) -> Self {
        let by_source = (0..ranks).map(|_| Line::new()).collect();
        Self { by_source, any_source: Line::new(), next: 0, live: 0 }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// How many there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    #[inline]
    pub(crate) fn post(&mut self, pattern: Pattern, receive: R) {
        let mask = pattern.mask();
        let entry = Entry { key: pattern.key & mask, mask, order: self.next, receive };
        self.next += 1;
        self.live += 1;
        self.line(pattern.source()).push(entry);
    }

    /// Removes and returns the earliest receive that accepts the message.
    #[inline]
    pub(crate) fn take_match(&mut self, envelope: &Envelope) -> Option<R> {
        if self.live == 0 {
            return None;
        }
        // Mostly receives name their source, and messages come in the order of their receives.
        if self.any_source.live == 0
            && let Some(entry) = self.by_source[usize::from(envelope.source)]
                .take_front(|entry| entry.fits(key(envelope.context, envelope.tag)))
        {
            self.live -= 1;
            return Some(entry.receive);
        }
        self.search_match(envelope)
    }

    fn search_match(&mut self, envelope: &Envelope) -> Option<R> {
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

    /// The receives that any source could satisfy.
    pub(crate) fn waiting_for_any(&self) -> Vec<R> {
        self.any_source.items.iter().flatten().map(|entry| entry.receive).collect()
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
    let key = key(envelope.context, envelope.tag);
    let (at, entry) = line.find(|entry| entry.fits(key))?;
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

    #[inline]
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

    /// Removes all of them.
    pub(crate) fn take_all(&mut self) -> Vec<(Envelope, M)> {
        self.live = 0;
        let arrivals = self.by_source.iter_mut().flat_map(|line| std::mem::replace(line, Line::new()).items);
        arrivals.flatten().map(|arrival| (arrival.envelope, arrival.message)).collect()
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

    /// Removes a message from `source`; false if it is not there.
    pub(crate) fn withdraw(&mut self, source: usize, is_it: impl Fn(&M) -> bool) -> bool {
        let Some((at, _)) = self.by_source[source].find(|arrival| is_it(&arrival.message)) else {
            return false;
        };
        self.by_source[source].take(at);
        self.live -= 1;
        true
    }

    fn locate(&self, pattern: &Pattern) -> Option<(usize, usize)> {
        if self.live == 0 {
            return None;
        }
        let sources = match pattern.source() {
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
            pattern.prop_map(|(context, source, tag)| Action::Receive(Pattern::new(context, source, tag)));
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
        let pattern = |tag| Pattern::new(0, Some(1), Some(tag));
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
        /// By its words a message is found to fit if it does so by its fields, and comes from that rank, with that type.
        #[test]
        fn words_fit_as_fields_do(
            fields in (0..2u32, 0..3u16, any::<u16>(), 0..3i32, 0..2u32),
            wanted in (0..2u32, 0..3usize, prop::option::of(0..3i32), 0..2u32),
            flags: u16,
            length: u64,
        ) {
            let (context, source, call_site, tag, element_type) = fields;
            let envelope = Envelope { flags, context, source, call_site, tag, element_type, length };
            let (context, source, tag, element_type) = wanted;
            let pattern = Pattern::new(context, Some(source), tag);
            prop_assert_eq!(
                pattern.fits_words(&envelope.words(), source, element_type),
                pattern.fits(&envelope) && envelope.element_type == element_type
            );
        }

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
                        prop_assert!(posted.cancel(pattern.source(), receive));
                        prop_assert!(!posted.cancel(pattern.source(), receive));
                    }
                    Action::CancelOldest => {}
                }
                prop_assert_eq!(posted.is_empty(), oracle.posted.is_empty());
                prop_assert_eq!(unexpected.is_empty(), oracle.arrived.is_empty());
            }
        }
    }
}
