//! Calls by their ids, found fast: nearly all come in the order of their ids, so the table is a queue in that order, where
//! an id's place is known as long as there are no gaps, and found by halving otherwise.

use std::collections::VecDeque;

use procbridge_proto::CallId;

/// A table of calls.
#[derive(Debug)]
pub(crate) struct ById<T> {
    slots: VecDeque<(CallId, Option<T>)>,
    live: usize,
}

impl<T> ById<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.live == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Enters a call that is not here.
    pub(crate) fn insert(&mut self, id: CallId, call: T) {
        self.live += 1;
        if self.slots.back().is_none_or(|&(last, _)| last < id) {
            self.slots.push_back((id, Some(call)));
            return;
        }
        // A large one was begun before those behind it and has arrived after them.
        let at = self.slots.partition_point(|&(at, _)| at < id);
        self.slots.insert(at, (id, Some(call)));
    }

    pub(crate) fn get(&self, id: &CallId) -> Option<&T> {
        let at = self.place(*id)?;
        self.slots.get(at)?.1.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: &CallId) -> Option<&mut T> {
        let at = self.place(*id)?;
        self.slots.get_mut(at)?.1.as_mut()
    }

    pub(crate) fn remove(&mut self, id: &CallId) -> Option<T> {
        let at = self.place(*id)?;
        let call = self.slots.get_mut(at)?.1.take()?;
        self.has_ended();
        Some(call)
    }

    /// The same with a call of which nothing is wanted any more.
    pub(crate) fn discard(&mut self, id: &CallId) {
        if let Some((_, call @ Some(_))) = self.place(*id).and_then(|at| self.slots.get_mut(at)) {
            *call = None;
            self.has_ended();
        }
    }

    fn has_ended(&mut self) {
        self.live -= 1;
        if self.live == 0 || self.slots.len() > 2 * self.live + FEW {
            self.close_gaps();
        }
    }

    fn close_gaps(&mut self) {
        // Mostly the calls at the front have ended. Gaps are dropped where they are: a call is large to be moved.
        let gaps = self.slots.iter().take_while(|(_, call)| call.is_none()).count();
        self.slots.drain(..gaps);
        if self.slots.len() > 2 * self.live + FEW {
            self.slots.retain(|(_, call)| call.is_some());
        }
        if self.slots.capacity() > 4 * self.slots.len() + 4 * FEW {
            self.slots.shrink_to(2 * self.slots.len());
        }
    }

    /// Holds no memory if there are no calls and were never many.
    #[cfg(feature = "tokio")]
    pub(crate) fn shrink(&mut self) {
        if self.slots.is_empty() && self.slots.capacity() <= FEW {
            self.slots = VecDeque::new();
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (CallId, &T)> {
        self.slots.iter().filter_map(|(id, call)| Some((*id, call.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (CallId, &mut T)> {
        self.slots.iter_mut().filter_map(|(id, call)| Some((*id, call.as_mut()?)))
    }

    fn place(&self, id: CallId) -> Option<usize> {
        let &(first, _) = self.slots.front()?;
        let likely = id.number().checked_sub(first.number())? as usize / 2;
        if self.slots.get(likely).is_some_and(|&(at, _)| at == id) {
            return Some(likely);
        }
        self.slots.binary_search_by_key(&id, |&(id, _)| id).ok()
    }
}

impl<T> Default for ById<T> {
    fn default() -> Self {
        Self { slots: VecDeque::new(), live: 0 }
    }
}

/// Gaps that are not worth a walk.
const FEW: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use procbridge_proto::{Connection, Limits, Packet, Terms, Version};

    use super::*;

    /// Ids as a session gives them, every second number.
    fn ids(count: usize) -> Vec<CallId> {
        let limits = Limits::default();
        let mut opener = Connection::client(limits).with_session(Terms::new());
        let mut acceptor = Connection::server(limits).with_session(Terms::new());
        let request = || Packet::request(Version::V1_1, Some("m"), None).finish(&limits).unwrap();
        let first = opener.call(request()).unwrap();
        acceptor.receive(opener.transmit());
        opener.transmitted(opener.transmit().len());
        opener.receive(acceptor.transmit());
        std::iter::once(first).chain((1..count).map(|_| opener.call(request()).unwrap())).collect()
    }

    #[test]
    fn the_table_is_a_map_that_forgets() {
        let (mut table, mut map, mut seed) = (ById::default(), BTreeMap::new(), 1_u32);
        let mut ids = ids(3000);
        for n in (0..3000).step_by(50) {
            ids.swap(n, n + 3);
        }
        for (n, id) in ids.into_iter().enumerate() {
            // Now and then one of another kind is in between.
            if n % 7 == 0 {
                continue;
            }
            table.insert(id, n);
            map.insert(id, n);
            // A call that stays for long, and the others ended in any order.
            while map.len() > (n / 16) % 100 + 1 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let id = *map.keys().nth(1 + seed as usize % (map.len() - 1)).unwrap();
                assert_eq!((table.remove(&id), table.remove(&id)), (map.remove(&id), None));
            }
            assert_eq!((table.len(), table.get(&id)), (map.len(), map.get(&id)));
            assert!(table.slots.capacity() <= 5 * (2 * map.len() + FEW) + 4 * FEW);
        }
        assert!(table.iter().map(|(id, &n)| (id, n)).eq(map));
    }
}
