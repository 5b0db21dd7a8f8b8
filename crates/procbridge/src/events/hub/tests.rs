use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::client::request::ResultForm;
use crate::session::end::End;
use crate::session::reading::Reader;
use crate::session::testing::{Ends, call, handled};

/// Subscribes at the server's end of a session.
fn subscribe(ends: &mut Ends, hub: &Hub, topics: &[String]) -> Result<(), String> {
    ends.peer.call(call("$/subscribe", &json!({ "topics": topics }), ResultForm::Stream)).unwrap();
    ends.deliver();
    let work = ends.session.take_incoming().unwrap();
    let Some(packet) = hub.answer(&handled(&ends.session, &work), &ServerConfig::new()) else {
        return Ok(());
    };
    let text = String::from_utf8_lossy(packet.bytes()).into_owned();
    ends.session.reply(work.id, packet);
    Err(text)
}

fn topics(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}.{n}")).collect()
}

/// Sessions whose peers read nothing.
fn sessions(count: usize) -> Vec<Ends> {
    (0..count).map(|_| Ends::server_of(Reader::None, 128)).collect()
}

#[test]
fn what_waits_for_a_subscriber_is_freed_when_it_is_gone() {
    let hub = Hub::new();
    let mut ends = sessions(2);
    for ends in &mut ends {
        subscribe(ends, &hub, &["a".to_string(), "*".to_string()]).unwrap();
    }
    for _ in 0..8 {
        assert_eq!(hub.publish("a", &"x".repeat(1 << 20)).unwrap(), 2);
    }
    let queued = || hub.inner.queued.load(Ordering::Relaxed);
    assert!(queued() > 8 << 20, "{}", queued());
    for (left, ends) in ends.iter().enumerate() {
        let before = queued();
        ends.session.close(End::Closed);
        assert!(queued() < before, "{left}");
    }
    assert_eq!((queued(), hub.subscriptions()), (0, 0));
    assert_eq!(hub.publish("a", &1).unwrap(), 0);
    let registry = hub.inner.registry();
    assert_eq!((registry.patterns, registry.shares.len()), (0, 0));
}

#[test]
fn events_that_wait_are_bounded_together() {
    let mut hub = Hub::new();
    Arc::get_mut(&mut hub.inner).unwrap().max_queued = 1 << 20;
    let mut ends = sessions(4);
    for (n, ends) in ends.iter_mut().enumerate() {
        subscribe(ends, &hub, &[n.to_string()]).unwrap();
    }
    let text = "x".repeat(64 << 10);
    for n in 0..4 {
        // One after the other, so that the first sessions exceed their fair share when the last come.
        for _ in 0..100 {
            hub.publish(&n.to_string(), &text).unwrap();
        }
    }
    let queued = hub.inner.queued.load(Ordering::Relaxed);
    assert!(queued <= 2 << 20, "{queued}");
}

#[test]
fn subscriptions_are_bounded_and_the_last_places_are_for_small_ones() {
    let hub = Hub::new();
    let mut many = sessions(HUB_PATTERNS / SESSION_PATTERNS);
    let each = SESSION_PATTERNS / MAX_TOPICS;
    let (mut own, mut all) = (0, 0);
    for (n, ends) in many.iter_mut().enumerate() {
        for part in 0..=each {
            let Err(text) = subscribe(ends, &hub, &topics(&format!("{n}.{part}"), MAX_TOPICS)) else {
                continue;
            };
            assert!(text.contains("overloaded"), "{text}");
            *if text.contains("in a session") { &mut own } else { &mut all } += 1;
        }
    }
    // Some sessions have all that a session may have, and the others nothing.
    let full = (HUB_PATTERNS - RESERVED_PATTERNS) / SESSION_PATTERNS;
    assert_eq!((own, all), (full, (each + 1) * (many.len() - full)));
    let mut small = Ends::server(Reader::None);
    subscribe(&mut small, &hub, &topics("small", FEW_PATTERNS)).unwrap();
    assert_eq!(hub.publish("small.7", &1).unwrap(), 1);
    // Topics that are named twice count once, and the permits of a subscription that has ended are released.
    many.iter().for_each(|ends| ends.session.close(End::Closed));
    assert_eq!(hub.inner.registry().patterns, FEW_PATTERNS);
}

/// The least of many measurements is the cost, whatever else the machine does.
#[test]
fn an_event_costs_by_the_subscriptions_that_it_concerns() {
    let cost = |hub: &Hub| {
        let times = (0..200).map(|_| {
            let begun = Instant::now();
            hub.publish("small.7", &1).unwrap();
            begun.elapsed()
        });
        times.min().unwrap_or_default().max(Duration::from_micros(1))
    };
    let hub = Hub::new();
    let mut small = Ends::server(Reader::None);
    subscribe(&mut small, &hub, &topics("small", 10)).unwrap();
    let alone = cost(&hub);
    let mut many = sessions(12);
    for (n, ends) in many.iter_mut().enumerate() {
        for part in 0..8 {
            let star = if part % 2 == 0 { "*" } else { "x" };
            subscribe(ends, &hub, &topics(&format!("{star}.{n}.{part}"), 250)).unwrap();
        }
    }
    let beside = cost(&hub);
    assert!(beside < 10 * alone, "{alone:?} alone, {beside:?} beside 24,000 topics of others");
}
