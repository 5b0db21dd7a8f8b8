//! The calls in flight of one side of a session, by their ids (PB-ID-*).
//!
//! Ids only ever increase, so the table is a queue, where an id's place is known or found by halving. A call that ends leaves a gap; gaps
//! at both ends go at once, those between when they are more than what is left. So every operation is fast, however
//! the calls end, and the memory follows the calls that are in flight.

use alloc::collections::VecDeque;

/// Calls in flight.
#[derive(Debug)]
pub(crate) struct Calls<T> {
    slots: VecDeque<(u32, Option<T>)>,
    live: usize,
}

impl<T> Calls<T> {
    pub(crate) fn new() -> Self {
        Self { slots: VecDeque::new(), live: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Enters a call, whose id must be above all those before it.
    pub(crate) fn insert(&mut self, id: u32, call: T) {
        debug_assert!(self.slots.back().is_none_or(|&(last, _)| last < id), "ids increase");
        self.slots.push_back((id, Some(call)));
        self.live += 1;
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let at = self.place(id)?;
        self.slots.get(at)?.1.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let at = self.place(id)?;
        self.slots.get_mut(at)?.1.as_mut()
    }

    /// Takes a call out: it has ended.
    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let at = self.place(id)?;
        let call = self.slots.get_mut(at)?.1.take()?;
        self.live -= 1;
        while let Some((_, None)) = self.slots.front() {
            self.slots.pop_front();
        }
        while let Some((_, None)) = self.slots.back() {
            self.slots.pop_back();
        }
        if self.slots.len() > 2 * self.live + FEW {
            self.slots.retain(|(_, call)| call.is_some());
        }
        if self.slots.capacity() > 4 * self.slots.len() + 4 * FEW {
            self.slots.shrink_to(2 * self.slots.len());
        }
        Some(call)
    }

    /// Holds no memory if there are no calls and were never many.
    pub(crate) fn shrink(&mut self) {
        if self.slots.is_empty() && self.slots.capacity() <= FEW {
            self.slots = VecDeque::new();
        }
    }

    /// The ids above `id`, ascending.
    pub(crate) fn above(&self, id: u32) -> impl Iterator<Item = u32> {
        let from = self.slots.partition_point(|&(at, _)| at <= id);
        self.slots.iter().skip(from).filter(|(_, call)| call.is_some()).map(|&(id, _)| id)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    fn place(&self, id: u32) -> Option<usize> {
        // Without gaps in the ids, which is usual, the place is known.
        let &(first, _) = self.slots.front()?;
        let likely = id.checked_sub(first)? as usize / 2;
        if self.slots.get(likely).is_some_and(|&(at, _)| at == id) {
            return Some(likely);
        }
        self.slots.binary_search_by_key(&id, |&(id, _)| id).ok()
    }
}

/// Gaps that are not worth a walk.
const FEW: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn the_table_is_a_map_that_forgets() {
        let (mut calls, mut map, mut seed) = (Calls::new(), BTreeMap::new(), 1_u32);
        for n in 1..5000_u32 {
            // Of one side, and now and then one left out.
            let id = 2 * n + 20 * (n / 1000);
            calls.insert(id, id);
            map.insert(id, id);
            // A call that stays for long, and the others ended in any order.
            while map.len() > (n as usize / 16) % 300 + 1 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = 1 + seed as usize % (map.len() - 1);
                let id = *map.keys().nth(at).unwrap();
                assert_eq!((calls.remove(id), calls.remove(id)), (map.remove(&id), None));
            }
            assert_eq!((calls.len(), calls.get(id)), (map.len(), map.get(&id)));
            assert!(
                calls.slots.capacity() <= 5 * (2 * map.len() + FEW) + 4 * FEW,
                "{}",
                calls.slots.capacity()
            );
        }
        assert_eq!(calls.above(0).collect::<Vec<_>>(), map.keys().copied().collect::<Vec<_>>());
        assert_eq!(calls.above(2).count(), map.len() - 1);
    }
}
