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

/// Lines whose numbers are found without a search.
const RECENT: usize = 16;

type Key = *const Location<'static>;

/// This rank's view of the table.
pub(crate) struct CallSites {
    job: &'static Job,
    /// Lines used lately, each at the place that its address names: loops send from the same few again and again.
    recent: [Cell<(usize, u16)>; RECENT],
    known: RefCell<HashMap<usize, u16>>,
}

impl CallSites {
    pub(crate) fn new(job: &'static Job) -> Self {
        Self { job, recent: [const { Cell::new((0, UNKNOWN)) }; RECENT], known: RefCell::new(HashMap::new()) }
    }

    /// The number of a call site.
    #[inline]
    pub(crate) fn intern(&self, site: CallSite) -> u16 {
        let key = key(site);
        let (recent, number) = self.recent[place(key)].get();
        if key == recent { number } else { self.look_up(site, key) }
    }

    /// The number of a call site that sends nothing: the line that sent last stays at hand.
    pub(crate) fn intern_aside(&self, site: CallSite) -> u16 {
        *self.known.borrow_mut().entry(key(site)).or_insert_with(|| self.enter(site))
    }

    /// The place as text, `file:line:column`.
    pub(crate) fn describe(&self, number: u16) -> String {
        describe(self.job, number).unwrap_or_else(|| "an unknown place".into())
    }

    #[cold]
    fn look_up(&self, site: CallSite, key: usize) -> u16 {
        let number = self.intern_aside(site);
        self.recent[place(key)].set((key, number));
        number
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

fn key(site: CallSite) -> usize {
    (site.0 as Key).addr()
}

/// Where a line is looked for first. The compiler puts locations side by side, and they are an odd number of words
/// long: neighbours have different places.
#[inline]
fn place(key: usize) -> usize {
    key / align_of::<Location<'_>>() % RECENT
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
