//! What the program holds of streams, events, modules and the like: numbers that look like pointers, each known to be of its kind.

use crate::call::{Result, failure};
use crate::status::Status;

/// Handles of one kind.
pub struct Handles<T> {
    what: &'static str,
    tag: u64,
    items: Vec<Option<T>>,
}

impl<T> Handles<T> {
    /// None yet. `tag` is another for each kind.
    pub const fn new(what: &'static str, tag: u64) -> Handles<T> {
        Handles { what, tag: tag << 36, items: Vec::new() }
    }

    /// A new one. A number is never given twice, so that the use of what was destroyed is seen.
    pub fn add(&mut self, item: T) -> u64 {
        self.items.push(Some(item));
        self.tag | (self.items.len() as u64) << 4
    }

    /// Whether a number is one of these.
    pub fn has(&self, handle: u64) -> bool {
        self.index(handle).is_some_and(|i| self.items[i].is_some())
    }

    fn index(&self, handle: u64) -> Option<usize> {
        let i = ((handle ^ self.tag) >> 4).checked_sub(1)? as usize;
        (handle & 15 == 0 && i < self.items.len()).then_some(i)
    }

    fn unknown<U>(&self, handle: u64) -> Result<U> {
        Err(failure(Status::INVALID_HANDLE, format!("{handle:#x} is no {}, or was destroyed", self.what)))
    }

    pub fn get(&self, handle: u64) -> Result<&T> {
        match self.index(handle).and_then(|i| self.items[i].as_ref()) {
            Some(item) => Ok(item),
            None => self.unknown(handle),
        }
    }

    pub fn get_mut(&mut self, handle: u64) -> Result<&mut T> {
        match self.index(handle) {
            Some(i) if self.items[i].is_some() => Ok(self.items[i].as_mut().expect("it was looked at")),
            _ => self.unknown(handle),
        }
    }

    /// All that are alive.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.iter_mut().flatten()
    }

    /// The first that is wanted.
    pub fn find(&self, wanted: impl Fn(&T) -> bool) -> Option<u64> {
        let i = self.items.iter().position(|item| item.as_ref().is_some_and(&wanted))?;
        Some(self.tag | (i as u64 + 1) << 4)
    }

    pub fn remove(&mut self, handle: u64) -> Result<T> {
        match self.index(handle).and_then(|i| self.items[i].take()) {
            Some(item) => Ok(item),
            None => self.unknown(handle),
        }
    }
}
