//! The index of a hub: which subscriptions match a topic. An event costs by the subscriptions that match it, not by all
//! of them (PB-EVT-3, PB-EVT-4).

use std::collections::HashMap;

/// Subscriptions by their patterns. Each has an id, which grows from one subscription to the next.
pub(super) struct Topics<T> {
    /// Patterns without a `*`.
    exact: HashMap<Box<str>, List<T>>,
    /// Patterns with a `*` at their end only, by the text before its dot.
    prefixes: HashMap<Box<str>, List<T>>,
    /// The pattern `*`.
    all: List<T>,
    /// All other patterns.
    shapes: Vec<Shape<T>>,
}

/// In the order of the ids.
type List<T> = Vec<(u64, T)>;

/// Patterns with a `*` in the same segments.
struct Shape<T> {
    /// For each segment whether it is a `*`.
    stars: Box<[bool]>,
    patterns: HashMap<Box<str>, List<T>>,
}

/// The part of the index that a pattern belongs to.
enum Kind<'p> {
    Exact,
    Prefix(&'p str),
    All,
    Shape,
}

impl<T: Clone> Topics<T> {
    /// Enters a subscription under one of its patterns. Returns `false` if the index is full for patterns of this
    /// shape.
    pub(super) fn insert(&mut self, pattern: &str, id: u64, subscription: T) -> bool {
        let list = match Kind::of(pattern) {
            Kind::Exact => self.exact.entry(pattern.into()).or_default(),
            Kind::Prefix(prefix) => self.prefixes.entry(prefix.into()).or_default(),
            Kind::All => &mut self.all,
            Kind::Shape => match self.shape(pattern) {
                Some(shape) => shape.patterns.entry(pattern.into()).or_default(),
                None => return false,
            },
        };
        list.push((id, subscription));
        true
    }

    fn shape(&mut self, pattern: &str) -> Option<&mut Shape<T>> {
        let stars: Box<[bool]> = pattern.split('.').map(|segment| segment == "*").collect();
        if let Some(at) = self.shapes.iter().position(|shape| shape.stars == stars) {
            return self.shapes.get_mut(at);
        }
        // There are few shapes this short, and they are the usual ones: unusual shapes of one peer do not displace
        // them.
        if stars.len() > SHORT && self.shapes.len() >= MAX_SHAPES {
            return None;
        }
        self.shapes.push(Shape { stars, patterns: HashMap::new() });
        self.shapes.last_mut()
    }

    /// Removes the subscription `id` from under one of its patterns.
    pub(super) fn remove(&mut self, pattern: &str, id: u64) {
        fn remove_from<T>(lists: &mut HashMap<Box<str>, List<T>>, key: &str, id: u64) {
            if let Some(list) = lists.get_mut(key) {
                remove(list, id);
                if list.is_empty() {
                    lists.remove(key);
                }
            }
            if lists.is_empty() {
                // Free the memory of many patterns.
                *lists = HashMap::new();
            }
        }
        match Kind::of(pattern) {
            Kind::Exact => remove_from(&mut self.exact, pattern, id),
            Kind::Prefix(prefix) => remove_from(&mut self.prefixes, prefix, id),
            Kind::All => remove(&mut self.all, id),
            Kind::Shape => {
                if let Some(at) = self.shapes.iter().position(|shape| shape.patterns.contains_key(pattern))
                    && let Some(shape) = self.shapes.get_mut(at)
                {
                    remove_from(&mut shape.patterns, pattern, id);
                    if shape.patterns.is_empty() {
                        self.shapes.swap_remove(at);
                    }
                }
            }
        }
    }

    /// Returns the subscriptions that match `topic`, each once.
    pub(super) fn concerned(&self, topic: &str) -> Vec<T> {
        let mut found: List<T> = Vec::new();
        let mut lists = 0;
        let mut add = |list: Option<&List<T>>| {
            if let Some(list) = list.filter(|list| !list.is_empty()) {
                found.extend_from_slice(list);
                lists += 1;
            }
        };
        add(Some(&self.all));
        add(self.exact.get(topic));
        if !self.prefixes.is_empty() {
            for (dot, _) in topic.match_indices('.') {
                add(topic.get(..dot).and_then(|prefix| self.prefixes.get(prefix)));
            }
        }
        if !self.shapes.is_empty() {
            let segments: Vec<_> = topic.split('.').collect();
            let mut key = String::new();
            for shape in self.shapes.iter().filter(|shape| shape.may_match(segments.len())) {
                shape.write_key(&segments, &mut key);
                add(shape.patterns.get(key.as_str()));
            }
        }
        if lists > 1 {
            found.sort_unstable_by_key(|&(id, _)| id);
            found.dedup_by_key(|&mut (id, _)| id);
        }
        found.into_iter().map(|(_, subscription)| subscription).collect()
    }
}

impl<T> Shape<T> {
    fn is_open(&self) -> bool {
        self.stars.last() == Some(&true)
    }

    fn may_match(&self, segments: usize) -> bool {
        if self.is_open() { segments >= self.stars.len() } else { segments == self.stars.len() }
    }

    /// Writes the one pattern of this shape that matches a topic of these `segments`.
    fn write_key(&self, segments: &[&str], key: &mut String) {
        key.clear();
        for (at, (segment, &is_star)) in segments.iter().zip(&self.stars).enumerate() {
            if at > 0 {
                key.push('.');
            }
            key.push_str(if is_star { "*" } else { segment });
        }
    }
}

impl<'p> Kind<'p> {
    fn of(pattern: &'p str) -> Self {
        let has_star = |text: &str| text.split('.').any(|segment| segment == "*");
        match pattern.strip_suffix(".*") {
            _ if pattern == "*" => Self::All,
            Some(prefix) if !has_star(prefix) => Self::Prefix(prefix),
            None if !has_star(pattern) => Self::Exact,
            _ => Self::Shape,
        }
    }
}

impl<T> Default for Topics<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), prefixes: HashMap::new(), all: Vec::new(), shapes: Vec::new() }
    }
}

fn remove<T>(list: &mut List<T>, id: u64) {
    if let Ok(at) = list.binary_search_by_key(&id, |&(id, _)| id) {
        list.remove(at);
    }
}

/// The most shapes of more than [`SHORT`] segments at a time. Publishing looks up each of them.
const MAX_SHAPES: usize = 256;
/// The segments of a shape that is always accepted: there are 26 such shapes.
const SHORT: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// States the rule itself (PB-EVT-3, PB-EVT-4).
    fn matches(pattern: &str, topic: &str) -> bool {
        let mut topic = topic.split('.');
        let mut pattern = pattern.split('.').peekable();
        while let Some(wanted) = pattern.next() {
            let Some(segment) = topic.next() else { return false };
            if wanted == "*" {
                if pattern.peek().is_none() {
                    return true;
                }
            } else if wanted != segment {
                return false;
            }
        }
        topic.next().is_none()
    }

    #[test]
    fn a_star_is_one_segment_and_at_the_end_any_number() {
        for (pattern, topic, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a", "a.b", false),
            ("*", "a", true),
            ("*", "a.b.c", true),
            ("a.*", "a", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", true),
            ("*.b", "a.b", true),
            ("*.b", "a.c", false),
            ("*.b", "a.b.c", false),
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a.b.b.c", false),
            ("*.*", "a", false),
            ("*.*", "a.b.c", true),
            ("a*", "ab", false),
            ("A", "a", false),
            ("", "", true),
            (".*", ".a", true),
            (".*", "a", false),
        ] {
            let mut topics = Topics::default();
            assert!(topics.insert(pattern, 1, ()));
            assert_eq!(!topics.concerned(topic).is_empty(), expected, "{pattern} {topic}");
            assert_eq!(matches(pattern, topic), expected, "{pattern} {topic}");
        }
    }

    /// Returns all texts of up to three segments, each of them one of four.
    fn texts() -> Vec<String> {
        let segments = ["a", "b", "*", ""];
        let mut texts: Vec<String> = segments.map(String::from).into();
        for end in [4, 20] {
            for at in end - if end == 4 { 4 } else { 16 }..end {
                texts.extend(segments.map(|segment| format!("{}.{segment}", texts[at])));
            }
        }
        texts
    }

    #[test]
    fn the_index_finds_what_a_look_at_each_pattern_finds() {
        let texts = texts();
        assert_eq!(texts.len(), 84);
        let mut topics = Topics::default();
        for (id, pattern) in texts.iter().enumerate() {
            assert!(topics.insert(pattern, id as u64, id));
        }
        let check = |topics: &Topics<usize>, is_there: &dyn Fn(usize) -> bool| {
            for topic in &texts {
                let expected: Vec<_> =
                    (0..texts.len()).filter(|&id| is_there(id) && matches(&texts[id], topic)).collect();
                let mut found = topics.concerned(topic);
                found.sort_unstable();
                assert_eq!(found, expected, "{topic}");
            }
        };
        check(&topics, &|_| true);
        for id in (0..texts.len()).step_by(2) {
            topics.remove(&texts[id], id as u64);
        }
        check(&topics, &|id| id % 2 == 1);
        for (id, pattern) in texts.iter().enumerate() {
            topics.remove(pattern, id as u64);
        }
        assert!(topics.exact.is_empty() && topics.prefixes.is_empty());
        assert!(topics.all.is_empty() && topics.shapes.is_empty());
    }

    #[test]
    fn unusual_shapes_leave_room_for_the_usual_ones() {
        let mut topics = Topics::default();
        let taken = (0..2_u32 << 10).filter(|&bits| {
            let bit = |at: u32| if bits >> at & 1 == 1 { "*" } else { "x" };
            let pattern = format!("*.{}", (0..11).map(bit).collect::<Vec<_>>().join("."));
            topics.insert(&pattern, bits.into(), ())
        });
        assert_eq!(taken.count(), MAX_SHAPES);
        assert!(topics.insert("*.done", 5_000, ()) && topics.insert("a.*.b.*", 5_001, ()));
        assert_eq!(topics.concerned("build.done").len(), 1);
    }
}
