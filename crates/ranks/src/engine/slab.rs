//! Operations by number. A freed number is used again, so whoever holds one has to know that it is still his.

use super::OperationId;

pub(crate) struct Slab<T> {
    entries: Vec<Option<T>>,
    free: Vec<OperationId>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }

    /// Forgets all operations, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.free.clear();
    }

    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> OperationId {
        if let Some(id) = self.free.pop() {
            self.entries[id as usize] = Some(value);
            return id;
        }
        let id = OperationId::try_from(self.entries.len()).expect("fewer than 2^32 operations at a time");
        self.entries.push(Some(value));
        id
    }

    /// The operation, if the number is in use. For numbers that come from another rank.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: OperationId) -> Option<&mut T> {
        self.entries.get_mut(id as usize)?.as_mut()
    }

    #[inline]
    pub(crate) fn get(&self, id: OperationId) -> Option<&T> {
        self.entries.get(id as usize)?.as_ref()
    }

    pub(crate) fn remove(&mut self, id: OperationId) -> Option<T> {
        let value = self.entries.get_mut(id as usize)?.take();
        if value.is_some() {
            self.free.push(id);
        }
        value
    }

    /// Like [`Slab::remove`], for an operation that nobody needs any more.
    #[inline]
    pub(crate) fn forget(&mut self, id: OperationId) {
        if let Some(entry @ Some(_)) = self.entries.get_mut(id as usize) {
            *entry = None;
            self.free.push(id);
        }
    }

    /// All operations.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().flatten()
    }

    /// The number of the first operation that `is` so.
    pub(crate) fn position(&self, is: impl Fn(&T) -> bool) -> Option<OperationId> {
        let at = self.entries.iter().position(|entry| entry.as_ref().is_some_and(&is));
        at.map(|at| at as OperationId)
    }

    /// All numbers that may be in use now.
    pub(crate) fn numbers(&self) -> std::ops::Range<OperationId> {
        0..self.entries.len() as OperationId
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}
