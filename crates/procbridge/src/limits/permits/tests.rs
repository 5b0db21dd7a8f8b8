use super::*;

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
pub(in crate::limits) fn fill(semaphore: &Semaphore, account: &Arc<Account>) -> Vec<Permit> {
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
