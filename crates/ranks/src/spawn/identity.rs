//! Which call of `spawn` a child belongs to.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::Location;

use rustix::process::getppid;

/// The variable that identifies a child's call.
pub(super) const VARIABLE: &str = "RANKS_SPAWN";

/// A call of `spawn`: the same in parent and child.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Call {
    /// `file:line:column`.
    pub(super) site: String,
    /// The name of the test, if it is one.
    pub(super) test: Option<String>,
    /// Calls at the same place in the same test before this one.
    pub(super) ordinal: u32,
}

thread_local! {
    static CALLS: RefCell<HashMap<(String, Option<String>), u32>> = RefCell::default();
}

impl Call {
    /// Counts a call.
    pub(super) fn count(site: &Location<'_>, test: Option<String>) -> Self {
        let site = site.to_string();
        let ordinal = CALLS.with_borrow_mut(|calls| {
            let next = calls.entry((site.clone(), test.clone())).or_default();
            *next += 1;
            *next - 1
        });
        Self { site, test, ordinal }
    }

    /// What a child of process `parent` finds in its environment.
    pub(super) fn encode(&self, parent: u32) -> String {
        format!("{parent}\n{}\n{}\n{}", self.ordinal, self.site, self.test.as_deref().unwrap_or(""))
    }

    fn decode(text: &str) -> Option<(u32, Self)> {
        let mut lines = text.splitn(4, '\n');
        let parent = lines.next()?.parse().ok()?;
        let ordinal = lines.next()?.parse().ok()?;
        let site = lines.next()?.to_owned();
        let test = lines.next().filter(|name| !name.is_empty()).map(str::to_owned);
        Some((parent, Self { site, test, ordinal }))
    }

    /// The call that this process was started for.
    ///
    /// A program that a rank starts inherits the variable too, but is no child of the process that wrote it.
    pub(super) fn of_this_process() -> Option<Self> {
        let (parent, call) = Self::decode(&std::env::var(VARIABLE).ok()?)?;
        let real_parent = getppid()?.as_raw_nonzero().get() as u32;
        (parent == real_parent).then_some(call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_apart_by_place_test_and_order() {
        let place = Location::caller();
        let calls = [None, None, Some("a".to_owned())].map(|test| Call::count(place, test));
        assert_eq!(calls.each_ref().map(|call| call.ordinal), [0, 1, 0]);
        for call in calls {
            assert_eq!(Call::decode(&call.encode(7)), Some((7, call)));
        }
        assert_eq!(Call::decode("nonsense"), None);
    }
}
