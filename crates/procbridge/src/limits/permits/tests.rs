use super::*;
use crate::peer::Credentials;

#[test]
fn a_permit_is_bounded_and_returned() {
    let semaphore = Semaphore::new(10);
    let mut first = semaphore.try_acquire(4).unwrap();
    let second = semaphore.try_acquire(6).unwrap();
    assert!(semaphore.try_acquire(1).is_none());
    assert!(!first.resize(5));
    assert!(first.resize(1));
    assert_eq!(semaphore.used(), 7);
    drop(second);
    assert!(first.resize(10));
    drop(first);
    assert_eq!(semaphore.used(), 0);
}

/// Takes single units for `account` until it gets no more.
fn fill(semaphore: &Semaphore, account: &Arc<Account>) -> Vec<Permit> {
    std::iter::from_fn(|| semaphore.try_acquire_for(account, 1)).collect()
}

#[test]
fn one_account_gets_all_of_a_small_limit() {
    for limit in 1..=3 {
        assert_eq!(fill(&Semaphore::shared(limit, Resource::Calls), &Arc::default()).len(), limit);
    }
}

#[test]
fn one_account_alone_gets_two_thirds() {
    for (limit, most) in [(4, 3), (8, 6), (16, 12), (128, 92), (1024, 736)] {
        assert_eq!(fill(&Semaphore::shared(limit, Resource::Calls), &Arc::default()).len(), most, "{limit}");
    }
}

/// Each account takes all that it can before the next one comes, which is the worst order.
#[test]
fn something_is_left_however_many_take_all_they_can() {
    for (greedy, left) in [(1, 120), (2, 30), (9, 1), (120, 1)] {
        let semaphore = Semaphore::shared(1024, Resource::Calls);
        let accounts: Vec<Arc<Account>> = (0..greedy).map(|_| Arc::default()).collect();
        let taken: Vec<_> = accounts.iter().flat_map(|account| fill(&semaphore, account)).collect();
        let newcomer = Arc::default();
        let permits = fill(&semaphore, &newcomer);
        assert!(permits.len() >= left, "{greedy} leave {}", permits.len());
        assert_eq!(semaphore.used(), taken.len() + permits.len());
        drop((taken, permits));
        assert_eq!((semaphore.used(), accounts[0].used(Resource::Calls)), (0, 0));
    }
}

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
        // Two processes may have the same account by chance.
        let is_other = |peer: &Peer| !Arc::ptr_eq(accounts.process(peer), accounts.process(&unix(1)));
        let other = (2..).map(unix).find(is_other).unwrap();
        assert!(fill(&semaphore, accounts.classic(&other)).len() >= 50);
    }
}

/// Where any user may connect, processes without number of one user leave as much to others as one process does.
#[test]
fn many_processes_of_one_user_take_no_more_than_one_user() {
    let (semaphore, accounts) = (Semaphore::shared(1024, Resource::Calls), Accounts::new(true));
    let taken: Vec<_> = (1..200).flat_map(|pid| fill(&semaphore, &accounts.session(&unix(pid)))).collect();
    assert!((512..=736).contains(&taken.len()), "{}", taken.len());
    let user = |peer: &Peer| Arc::as_ptr(accounts.process(peer).above.as_ref().unwrap());
    let of = |uid| Peer::Unix(Credentials { uid, gid: 1, pid: 1 });
    // Two users may have the same account by chance.
    let other = (2000..).map(of).find(|peer| user(peer) != user(&unix(1))).unwrap();
    assert!(fill(&semaphore, accounts.classic(&other)).len() >= 50);
    drop(taken);
    assert_eq!(accounts.process(&unix(1)).above.as_ref().unwrap().used(Resource::Calls), 0);
}

#[test]
fn a_session_leaves_something_to_other_sessions_of_its_process() {
    for (greedy, left) in [(1, 90), (9, 1), (80, 1)] {
        let (semaphore, accounts) = (Semaphore::shared(1024, Resource::Calls), Accounts::new(false));
        let taken = sessions(&accounts, &unix(1), greedy, &semaphore);
        assert!(fill(&semaphore, &accounts.session(&unix(1))).len() >= left, "{greedy}: {}", taken.len());
        assert!(!fill(&semaphore, accounts.classic(&unix(1))).is_empty(), "{greedy}: {}", taken.len());
    }
}

#[test]
fn all_units_of_a_process_are_returned() {
    let (semaphore, accounts) = (Semaphore::shared(100, Resource::Requests), Accounts::new(false));
    let mut permit = semaphore.try_acquire_for(accounts.classic(&unix(1)), 10).unwrap();
    let session = accounts.session(&unix(1));
    permit.transfer_to(&session);
    assert!(permit.resize(12) && !permit.resize(99));
    let taken = |account: &Arc<Account>| account.used(Resource::Requests);
    let classic = accounts.classic(&unix(1));
    assert_eq!((taken(&session), taken(classic), taken(accounts.process(&unix(1)))), (12, 0, 12));
    drop(permit);
    assert_eq!((taken(&session), taken(accounts.process(&unix(1))), semaphore.used()), (0, 0, 0));
}

#[test]
fn bytes_cannot_be_filled_to_the_last() {
    let semaphore = Semaphore::shared(256 << 20, Resource::Requests);
    let mut taken = Vec::new();
    for greedy in 1..=512 {
        let account = Arc::default();
        for size in [16 << 20, 1 << 20, 64 << 10, 4096, 100] {
            taken.extend(std::iter::from_fn(|| semaphore.try_acquire_for(&account, size)));
        }
        let next = if greedy < 16 { 128 << 10 } else { 512 };
        assert!(semaphore.try_acquire_for(&Arc::default(), next).is_some(), "after {greedy}");
    }
}

#[test]
fn transferred_units_count_for_the_new_account() {
    let semaphore = Semaphore::shared(100, Resource::Requests);
    let (first, second): (Arc<Account>, Arc<Account>) = Default::default();
    let mut permit = semaphore.try_acquire_for(&first, 10).unwrap();
    permit.transfer_to(&second);
    assert_eq!((first.used(Resource::Requests), second.used(Resource::Requests)), (0, 10));
    assert_eq!(semaphore.used(), 10);
    drop(permit);
    assert_eq!((second.used(Resource::Requests), semaphore.used()), (0, 0));
}

#[test]
fn connections_of_one_process_have_one_account() {
    let accounts = Accounts::new(false);
    let tcp = |port| Peer::Tcp(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
    assert!(Arc::ptr_eq(accounts.classic(&tcp(1)), accounts.classic(&tcp(2))));
    assert!(Arc::ptr_eq(accounts.session(&tcp(1)).above.as_ref().unwrap(), accounts.process(&tcp(2))));
}
