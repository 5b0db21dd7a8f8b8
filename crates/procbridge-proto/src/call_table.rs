//! A value for each call in flight, by the call's id (PB-ID-*).
//!
//! Ids only ever increase, so the table is a queue in their order. Without gaps the position of an id is known, else a
//! binary search finds it. A call that ends leaves a gap. Gaps at the front are removed when no call is left. All gaps
//! are removed when they outnumber the calls that are left. So every operation is fast in any order of ends. The memory
//! follows the calls in flight.

use alloc::collections::VecDeque;

use crate::event::CallId;

/// A value for each call in flight, found fast by the call's id. The core stores its calls here. A face stores its own
/// value for each of them.
///
/// ```
/// use procbridge_proto::{CallTable, Connection, Limits, Packet, Version};
///
/// let limits = Limits::default();
/// let mut client = Connection::client(limits);
/// let id = client.call(Packet::request(Version::V1_1, Some("sum"), None).finish(&limits)?)?;
///
/// let mut waiting = CallTable::default();
/// waiting.insert(id, "caller");
/// assert_eq!(waiting.remove(id), Some("caller"));
/// assert!(waiting.is_empty());
/// # Ok::<(), procbridge_proto::Misuse>(())
/// ```
#[derive(Debug)]
pub struct CallTable<T> {
    slots: VecDeque<(CallId, Option<T>)>,
    live: usize,
}

impl<T> CallTable<T> {
    /// Returns the number of calls.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether the table has no call.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Inserts a call that is not in the table.
    pub fn insert(&mut self, id: CallId, call: T) {
        self.live += 1;
        if self.slots.back().is_none_or(|&(last, _)| last < id) {
            self.slots.push_back((id, Some(call)));
            return;
        }
        // A large request began before those behind it and has arrived after them.
        let at = self.slots.partition_point(|&(at, _)| at < id);
        self.slots.insert(at, (id, Some(call)));
    }

    /// Returns the value of a call.
    pub fn get(&self, id: CallId) -> Option<&T> {
        let at = self.place(id)?;
        self.slots.get(at)?.1.as_ref()
    }

    /// Returns the value of a call, to be changed.
    pub fn get_mut(&mut self, id: CallId) -> Option<&mut T> {
        let at = self.place(id)?;
        self.slots.get_mut(at)?.1.as_mut()
    }

    /// Removes a call and returns its value.
    pub fn remove(&mut self, id: CallId) -> Option<T> {
        if self.live == 1 && self.slots.len() == 1 && self.slots.capacity() <= 4 * KEPT_CAPACITY {
            // The usual case.
            let call = self.slots.pop_front_if(|slot| slot.0 == id)?.1;
            self.live = 0;
            return call;
        }
        let at = self.place(id)?;
        let call = self.slots.get_mut(at)?.1.take()?;
        self.has_ended();
        Some(call)
    }

    /// Removes a call and drops its value.
    pub fn discard(&mut self, id: CallId) {
        if let Some((_, call @ Some(_))) = self.place(id).and_then(|at| self.slots.get_mut(at)) {
            *call = None;
            self.has_ended();
        }
    }

    /// Removes all calls.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Frees the memory of an empty table that never had many calls.
    pub fn shrink(&mut self) {
        if self.slots.is_empty() && self.slots.capacity() <= KEPT_CAPACITY {
            self.slots = VecDeque::new();
        }
    }

    /// Returns all calls in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (CallId, &T)> {
        self.slots.iter().filter_map(|(id, call)| Some((*id, call.as_ref()?)))
    }

    /// Returns all calls in the order of their ids, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (CallId, &mut T)> {
        self.slots.iter_mut().filter_map(|(id, call)| Some((*id, call.as_mut()?)))
    }

    fn has_ended(&mut self) {
        self.live -= 1;
        if self.live == 0 && self.slots.capacity() <= 4 * KEPT_CAPACITY {
            self.slots.clear();
        } else if self.live == 0 || self.slots.len() > 2 * self.live + KEPT_CAPACITY {
            self.close_gaps();
        }
    }

    fn close_gaps(&mut self) {
        // Usually the calls at the front have ended.
        while let Some((_, None)) = self.slots.front() {
            self.slots.pop_front();
        }
        if self.slots.len() > 2 * self.live + KEPT_CAPACITY {
            self.slots.retain(|(_, call)| call.is_some());
        }
        if self.slots.capacity() > 4 * self.slots.len() + 4 * KEPT_CAPACITY {
            self.slots.shrink_to(2 * self.slots.len());
        }
    }

    fn place(&self, CallId(id): CallId) -> Option<usize> {
        let &(CallId(first), _) = self.slots.front()?;
        // The ids of one side are every second number.
        let likely = id.checked_sub(first)? as usize / 2;
        if self.slots.get(likely).is_some_and(|&(CallId(at), _)| at == id) {
            return Some(likely);
        }
        self.slots.binary_search_by_key(&id, |&(CallId(id), _)| id).ok()
    }
}

impl<T> Default for CallTable<T> {
    fn default() -> Self {
        Self { slots: VecDeque::new(), live: 0 }
    }
}

/// The number of gaps that are not worth removing.
const KEPT_CAPACITY: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_table_is_a_map_that_forgets() {
        let (mut table, mut map, mut seed) = (CallTable::default(), BTreeMap::new(), 1_u32);
        for n in 1..5000_u32 {
            // Of one side, now and then some left out, and one that comes after those that were begun behind it.
            let late = if n % 50 == 0 { 6 } else { 0 };
            let id = CallId(20 + 2 * n + 20 * (n / 1000) - late);
            if n % 50 + 3 == 50 {
                continue;
            }
            table.insert(id, id);
            map.insert(id, id);
            // A call that stays for long, and the others ended in any order.
            while map.len() > (n as usize / 16) % 300 + 1 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = 1 + seed as usize % (map.len() - 1);
                let id = *map.keys().nth(at).unwrap();
                assert_eq!((table.remove(id), table.remove(id)), (map.remove(&id), None));
            }
            assert_eq!((table.len(), table.get(id)), (map.len(), map.get(&id)));
            let capacity = table.slots.capacity();
            assert!(capacity <= 5 * (2 * map.len() + KEPT_CAPACITY) + 4 * KEPT_CAPACITY, "{capacity}");
        }
        assert!(table.iter().map(|(id, &call)| (id, call)).eq(map.clone()));
        for id in map.into_keys() {
            table.discard(id);
            table.discard(id);
        }
        assert!(table.is_empty() && table.slots.is_empty());
    }
}
