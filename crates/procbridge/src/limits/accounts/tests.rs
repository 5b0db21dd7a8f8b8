use std::net::SocketAddr;

use super::*;
use crate::limits::permits::tests::fill;
use crate::limits::permits::{Permit, Resource, Semaphore};
use crate::peer::Credentials;

fn unix(pid: i32) -> Peer {
    Peer::Unix(Credentials { uid: 1000, gid: 1000, pid })
}

/// Returns the permits of sessions of a process, of which each takes all that it can.
fn sessions(accounts: &Accounts, peer: &Peer, count: usize, semaphore: &Semaphore) -> Vec<Permit> {
    (0..count).flat_map(|_| fill(semaphore, &accounts.session(peer))).collect()
}

#[test]
fn many_sessions_of_one_process_take_no_more_than_one_process() {
    for resource in [Resource::Calls, Resource::Requests, Resource::Answers] {
        let (semaphore, accounts) = (Semaphore::shared(1024, resource), Accounts::new(false));
        let taken = sessions(&accounts, &unix(1), 1000, &semaphore);
        assert!((512..=736).contains(&taken.len()), "{}", taken.len());
        assert_eq!(accounts.process(&unix(1)).used(resource), taken.len());
        assert!(fill(&semaphore, &accounts.classic(&unix(2))).len() >= 50);
    }
}

/// Where any user may connect, processes without number of one user leave as much to others as one process does.
#[test]
fn many_processes_of_one_user_take_no_more_than_one_user() {
    let (semaphore, accounts) = (Semaphore::shared(1024, Resource::Calls), Accounts::new(true));
    let taken: Vec<_> = (1..200).flat_map(|pid| fill(&semaphore, &accounts.session(&unix(pid)))).collect();
    assert!((512..=736).contains(&taken.len()), "{}", taken.len());
    let other = Peer::Unix(Credentials { uid: 2000, gid: 1, pid: 1 });
    assert!(fill(&semaphore, &accounts.classic(&other)).len() >= 50);
    drop(taken);
    assert_eq!(accounts.process(&unix(1)).above().unwrap().used(Resource::Calls), 0);
}

#[test]
fn a_session_leaves_something_to_other_sessions_of_its_process() {
    for (greedy, left) in [(1, 90), (9, 1), (80, 1)] {
        let (semaphore, accounts) = (Semaphore::shared(1024, Resource::Calls), Accounts::new(false));
        let taken = sessions(&accounts, &unix(1), greedy, &semaphore);
        assert!(fill(&semaphore, &accounts.session(&unix(1))).len() >= left, "{greedy}: {}", taken.len());
        assert!(!fill(&semaphore, &accounts.classic(&unix(1))).is_empty(), "{greedy}: {}", taken.len());
    }
}

#[test]
fn all_units_of_a_process_are_returned() {
    let (semaphore, accounts) = (Semaphore::shared(100, Resource::Requests), Accounts::new(false));
    let mut permit = semaphore.try_acquire_for(&accounts.classic(&unix(1)), 10).unwrap();
    let session = accounts.session(&unix(1));
    permit.transfer_to(&session);
    assert!(permit.resize(12) && !permit.resize(99));
    let taken = |account: &Arc<Account>| account.used(Resource::Requests);
    let classic = accounts.classic(&unix(1));
    assert_eq!((taken(&session), taken(&classic), taken(&accounts.process(&unix(1)))), (12, 0, 12));
    drop(permit);
    assert_eq!((taken(&session), taken(&accounts.process(&unix(1))), semaphore.used()), (0, 0, 0));
}

#[test]
fn connections_of_one_process_have_one_account() {
    let accounts = Accounts::new(false);
    let tcp = |port| Peer::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
    assert!(Arc::ptr_eq(&accounts.classic(&tcp(1)), &accounts.classic(&tcp(2))));
    assert!(Arc::ptr_eq(accounts.session(&tcp(1)).above().unwrap(), &accounts.process(&tcp(2))));
}

/// A share that two processes have by chance would let one lock the other out.
#[test]
fn no_two_processes_share_an_account() {
    for any_user in [false, true] {
        let accounts = Accounts::new(any_user);
        let peers =
            (0..1000).map(unix).chain((1..100).map(|last| Peer::Tcp(SocketAddr::from(([0, 0, 0, last], 1)))));
        let processes: Vec<_> = peers.map(|peer| accounts.process(&peer)).collect();
        let mut distinct: Vec<_> = processes.iter().map(Arc::as_ptr).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), processes.len());
    }
}

#[test]
fn an_account_stays_while_it_is_used_and_goes_afterwards() {
    let accounts = Accounts::new(true);
    let semaphore = Semaphore::shared(1024, Resource::Calls);
    let (session, process) = (accounts.session(&unix(1)), accounts.process(&unix(2)));
    let permit = semaphore.try_acquire_for(&accounts.classic(&unix(3)), 1).unwrap();
    for number in 10..10_000 {
        let other = u32::try_from(number).unwrap();
        accounts.session(&Peer::Unix(Credentials { uid: other, gid: 1, pid: number }));
    }
    let inner = accounts.lock();
    assert!(inner.classic.entries.len() <= FEW && inner.users.entries.len() <= 2 * FEW);
    drop(inner);
    assert!(Arc::ptr_eq(session.above().unwrap(), &accounts.process(&unix(1))));
    assert!(Arc::ptr_eq(&process, &accounts.process(&unix(2))));
    assert!(Arc::ptr_eq(permit.account().unwrap(), &accounts.classic(&unix(3))));
}
