//! Ends a test that hangs, and says what it was doing: a harness has no limit of its own.

use std::io::Write;
use std::sync::{Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

/// Far beyond what a script takes, with a sanitizer on a busy machine too.
const LIMIT: Duration = Duration::from_secs(60);

static WATCHED: Mutex<Vec<(Instant, Vec<u8>)>> = Mutex::new(Vec::new());

/// Something that must end soon.
pub(super) struct Watched(Instant);

/// Watches until the result is dropped.
pub(super) fn watch(script: &[u8]) -> Watched {
    static START: Once = Once::new();
    START.call_once(|| drop(thread::spawn(look_now_and_then)));
    let begin = Instant::now();
    WATCHED.lock().unwrap().push((begin, script.to_vec()));
    Watched(begin)
}

impl Drop for Watched {
    fn drop(&mut self) {
        WATCHED.lock().unwrap().retain(|(begin, _)| *begin != self.0);
    }
}

fn look_now_and_then() {
    loop {
        thread::sleep(Duration::from_secs(1));
        for (begin, script) in WATCHED.lock().unwrap().iter() {
            if begin.elapsed() > LIMIT {
                // The harness keeps what a test prints, and what the threads of one print, until the test is over.
                let _ = writeln!(std::io::stderr(), "this script hangs: {script:?}");
                std::process::abort();
            }
        }
    }
}
