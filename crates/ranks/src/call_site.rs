//! Call sites as small numbers: a message carries the line of source that sent it in two bytes.
//!
//! A table in the segment holds the lines, interned at first use; the rank that made a message need not be
//! asked, or alive, to say where it came from. Number 0 means "unknown": the table is full.
//!
//! | entry state | meaning | transition |
//! |---|---|---|
//! | EMPTY | free | compare-and-swap by the rank that needs it => CLAIMED |
//! | CLAIMED | being written; stays so if its writer dies | => READY |
//! | READY | never changes again | |

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::Location;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::error::CallSite;
use crate::job::Job;
use crate::layout::{CALL_SITE_FILE_BYTES, CALL_SITES, CallSiteEntry};

const EMPTY: u32 = 0;
const CLAIMED: u32 = 1;
const READY: u32 = 2;

/// What a number of 0 stands for.
const UNKNOWN: u16 = 0;

/// Places for lines: twice as many as there are numbers, so that most lie where they are looked for first ...
const PLACES: usize = 2 * CALL_SITES;
/// ... and the others in one of so many places after that, or beside them.
const PROBES: usize = 8;

/// A place that no line has yet.
const FREE: (usize, u16) = (0, UNKNOWN);

type Key = *const Location<'static>;

/// This rank's view of the table.
pub(crate) struct CallSites {
    job: &'static Job,
    known: Known,
}

/// The lines that this rank has used, with their numbers: each at the first free place from the one on that its address names. No
/// line takes another one's place: two lines of one loop would do that to each other in every turn.
struct Known {
    places: Box<[Cell<(usize, u16)>; PLACES]>,
    /// Those that found no place.
    others: RefCell<HashMap<usize, u16>>,
}

impl CallSites {
    pub(crate) fn new(job: &'static Job) -> Self {
        Self { job, known: Known::new() }
    }

    /// The number of a call site.
    #[inline]
    pub(crate) fn intern(&self, site: CallSite) -> u16 {
        let key = (site.0 as Key).addr();
        self.known.at_once(key).unwrap_or_else(|| self.look_up(site, key))
    }

    #[cold]
    fn look_up(&self, site: CallSite, key: usize) -> u16 {
        self.known.find(key, || self.enter(site))
    }

    /// The place as text, `file:line:column`.
    pub(crate) fn describe(&self, number: u16) -> String {
        describe(self.job, number).unwrap_or_else(|| "an unknown place".into())
    }

    /// Finds the line in the table, or claims an entry for it.
    fn enter(&self, site: CallSite) -> u16 {
        let text = site.to_string();
        let table = self.job.call_sites();
        let start = hash(&text) as usize % CALL_SITES;
        for step in 0..CALL_SITES {
            let at = (start + step) % CALL_SITES;
            let claimed = table[at].state.compare_exchange(EMPTY, CLAIMED, Relaxed, Relaxed).is_ok();
            if claimed {
                write(&table[at], site.0);
            }
            if claimed || read(&table[at]).is_some_and(|known| known == tail(&text)) {
                return at as u16 + 1;
            }
        }
        UNKNOWN
    }
}

/// The place with this number as text, `file:line:column`, if it is known.
pub(crate) fn describe(job: &Job, number: u16) -> Option<String> {
    let at = usize::from(number).checked_sub(1)?;
    job.call_sites().get(at).and_then(read)
}

impl Known {
    fn new() -> Self {
        Self { places: Box::new([const { Cell::new(FREE) }; PLACES]), others: RefCell::default() }
    }

    /// Where a line is looked for first. The compiler puts locations side by side: neighbours have different places.
    #[inline]
    fn place(key: usize) -> usize {
        key / align_of::<Location<'_>>() % PLACES
    }

    /// The number of a line that lies where it is looked for first.
    #[inline]
    fn at_once(&self, key: usize) -> Option<u16> {
        let (line, number) = self.places[Self::place(key)].get();
        (key == line).then_some(number)
    }

    /// The number of a line, which `enter` gives to one that is not known yet.
    fn find(&self, key: usize, enter: impl FnOnce() -> u16) -> u16 {
        let (before, from) = self.places.split_at(Self::place(key));
        for place in from.iter().chain(before).take(PROBES) {
            match place.get() {
                (line, number) if line == key => return number,
                FREE => {
                    let number = enter();
                    place.set((key, number));
                    return number;
                }
                _ => {}
            }
        }
        *self.others.borrow_mut().entry(key).or_insert_with(enter)
    }
}

/// FNV-1a: the order of the table only has to be the same in all ranks.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// What the table keeps of `file:line:column`: a long path loses its beginning.
fn tail(text: &str) -> String {
    let (place, rest) = text.rsplit_once(':').unwrap_or((text, ""));
    let (file, line) = place.rsplit_once(':').unwrap_or((place, ""));
    format!("{}:{line}:{rest}", kept(file))
}

fn kept(file: &str) -> &str {
    let mut start = file.len().saturating_sub(CALL_SITE_FILE_BYTES);
    while !file.is_char_boundary(start) {
        start += 1;
    }
    &file[start..]
}

fn write(entry: &CallSiteEntry, site: &Location<'_>) {
    let file = kept(site.file());
    for (byte, value) in entry.file.iter().zip(file.bytes()) {
        byte.store(value, Relaxed);
    }
    entry.file_length.store(file.len() as u32, Relaxed);
    entry.line.store(site.line(), Relaxed);
    entry.column.store(site.column(), Relaxed);
    // SYNC call-site
    entry.state.store(READY, Release);
}

fn read(entry: &CallSiteEntry) -> Option<String> {
    // SYNC call-site
    if entry.state.load(Acquire) != READY {
        return None;
    }
    let length = (entry.file_length.load(Relaxed) as usize).min(CALL_SITE_FILE_BYTES);
    let bytes: Vec<u8> = entry.file[..length].iter().map(|byte| byte.load(Relaxed)).collect();
    // From shared memory, on its way to a terminal.
    let file = String::from_utf8_lossy(&bytes).replace(char::is_control, "?");
    Some(format!("{file}:{}:{}", entry.line.load(Relaxed), entry.column.load(Relaxed)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Every line keeps the number that it was given once, even if that is none, whichever lines its address is like.
    #[test]
    fn lines_keep_their_numbers() {
        let step = align_of::<Location<'_>>();
        let known = Known::new();
        let mut numbers = HashMap::new();
        // By threes of one place each; those of the last place go on at the beginning.
        let places = (PLACES + 2..).step_by(3);
        let keys =
            places.flat_map(|place| [place, place + PLACES, place + 7 * PLACES]).map(|place| place * step);
        for (key, number) in keys.take(PLACES + 20).zip((1..).step_by(3)) {
            let number = if number > 1500 { UNKNOWN } else { number };
            assert_eq!(known.find(key, || number), number, "a new line");
            numbers.insert(key, number);
            for (&key, &number) in &numbers {
                assert_eq!(known.at_once(key).unwrap_or(number), number);
                assert_eq!(known.find(key, || unreachable!("a line that is known")), number);
            }
        }
        let at_once = numbers.keys().filter(|&&key| known.at_once(key).is_some()).count();
        assert!(at_once >= PLACES / 3, "{at_once} of {PLACES} lie where they are looked for first");
        assert!(!known.others.borrow().is_empty(), "no line was left without a place");
    }
}
