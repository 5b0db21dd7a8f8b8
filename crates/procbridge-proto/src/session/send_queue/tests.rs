use alloc::format;

use super::*;
use crate::wire::HEADER_LENGTH;

fn draft(id: u32, size: usize) -> Draft {
    let mut buffer = alloc::vec![0; FRONT];
    buffer.resize(FRONT + size, b'a' + (id % 26) as u8);
    Draft { kind: Status::REQUEST, flags: 0, options: 0, id, buffer }
}

/// Returns the ids of the packets of `bytes`, in order. The pieces of a large body count once.
fn ids(bytes: &[u8]) -> Vec<u32> {
    let (mut ids, mut rest) = (Vec::new(), bytes);
    while let Some(header) = Header::parse(rest).unwrap() {
        let (packet, behind) = rest.split_at(HEADER_LENGTH + header.length as usize);
        let id = u32::from_le_bytes(packet[HEADER_LENGTH..FRONT].try_into().unwrap());
        assert!(packet[FRONT..].iter().all(|&byte| byte == b'a' + (id % 26) as u8), "{id}");
        if !ids.contains(&id) {
            ids.push(id);
        }
        rest = behind;
    }
    assert!(rest.is_empty());
    ids
}

/// A caller can give up any number of calls while the peer reads nothing (fault G-E).
#[test]
fn calls_that_are_taken_back_leave_no_memory_behind() {
    let mut out = SendQueue::default();
    out.push(draft(1, 20_000));
    for id in 2..10_000 {
        out.push(draft(id, 20_000));
        assert_eq!(out.withdraw(id), Withdrawn::Whole);
        assert!(out.small.len() < 30_000, "{} B after {id}", out.small.len());
    }
    assert_eq!(ids(&out.small), [1]);
}

/// A small packet at the position of a withdrawn request was cut in two by the piece of a large one. That was 1 of 600
/// runs of the session model.
#[test]
fn a_large_body_that_waits_for_a_request_taken_back_cuts_no_packet() {
    let mut out = SendQueue::default();
    let mut written = Vec::new();
    let mut write = |out: &mut SendQueue| {
        written.extend_from_slice(out.transmit());
        out.transmitted(usize::MAX);
    };
    out.push(draft(1, PIECE + 1));
    out.push(draft(3, 10));
    out.push(draft(5, PIECE + 1));
    out.push(Draft { kind: Status::GOOD, ..draft(2, PIECE + 1) });
    assert_eq!(out.withdraw(5), Withdrawn::Whole);
    write(&mut out);
    out.push(draft(7, 500));
    while !out.transmit().is_empty() {
        write(&mut out);
    }
    assert_eq!(ids(&written), [1, 3, 2, 7]);
}

#[test]
fn calls_that_are_taken_back_out_of_the_middle_are_compacted_away() {
    let mut random: u32 = 7;
    let mut roll = move |most: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 16) % most
    };
    for round in 0..200 {
        let (mut out, mut written, mut kept) = (SendQueue::default(), Vec::new(), Vec::new());
        let mut waiting = Vec::new();
        for id in 1..200 {
            let size = if roll(20) == 0 { 200_000 } else { roll(12_000) as usize };
            out.push(draft(id, size));
            waiting.push(id);
            kept.push(id);
            while waiting.len() > 3 {
                let id = waiting.remove(roll(waiting.len() as u32) as usize);
                if roll(8) > 0 && out.withdraw(id) == Withdrawn::Whole {
                    kept.retain(|&other| other != id);
                }
            }
            if roll(4) == 0 {
                let count = out.transmit().len().min(roll(8_000) as usize);
                written.extend_from_slice(&out.transmit()[..count]);
                out.transmitted(count);
            }
        }
        let most = out.queued() + (2 * MAX_KEPT_CAPACITY).max(out.queued());
        assert!(out.small.len() - out.at <= most, "round {round}: {} B", out.small.len());
        while !out.transmit().is_empty() {
            written.extend_from_slice(out.transmit());
            let count = out.transmit().len();
            out.transmitted(count);
        }
        let found = ids(&written);
        assert!(found.is_sorted(), "{}", format!("round {round}: {found:?}"));
        // The rest of a large request that had begun may be missing. Its written part is still there.
        assert_eq!(found, kept, "round {round}");
        assert_eq!((out.queued(), out.is_unsent(kept[0])), (0, false));
    }
}
