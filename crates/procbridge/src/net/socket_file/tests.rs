use std::os::unix::net::UnixListener;

use super::*;

fn socket() -> OwnedFd {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
}

/// Binds like a server that serves at once.
fn bind(socket: &OwnedFd, path: &Path) -> Result<SocketFile, Error> {
    let mut file = SocketFile::bind(socket, path, &Options::default())?;
    file.serve();
    Ok(file)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_file_is_made_with_its_mode_and_removed_with_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.sock");
    let group = Some("0".to_string());
    for (options, wanted) in [
        (Options::default(), 0o600),
        (Options { mode: Some(0o666), group: group.clone(), ..Options::default() }, 0o666),
        (Options { group, ..Options::default() }, 0o660),
    ] {
        let mut file = SocketFile::bind(&socket(), &path, &options).unwrap();
        assert_eq!(mode(&path), wanted);
        assert_eq!(files(dir.path()), ["a.sock"]);
        file.serve();
        drop(file);
        assert_eq!(files(dir.path()), [""; 0]);
    }
}

#[test]
fn a_live_socket_is_left_alone_and_a_stale_one_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.sock");
    let (first, second) = (socket(), socket());
    let file = bind(&first, &path).unwrap();
    let error = bind(&second, &path).unwrap_err();
    assert!(error.to_string().ends_with("another server listens there"), "{error}");

    // A server of another kind: found by what is bound, and never connected to.
    drop(file);
    let foreign = UnixListener::bind(&path).unwrap();
    foreign.set_nonblocking(true).unwrap();
    let error = bind(&second, &path).unwrap_err();
    assert!(error.to_string().ends_with("another server listens there"), "{error}");
    assert_eq!(foreign.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(foreign);
    assert!(path.exists());
    bind(&second, &path).unwrap();
}

#[test]
fn only_the_file_that_was_made_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.sock");
    let file = bind(&socket(), &path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "someone else's").unwrap();
    drop(file);
    assert_eq!(fs::read_to_string(&path).unwrap(), "someone else's");
    let error = bind(&socket(), &path).unwrap_err();
    assert!(error.to_string().ends_with("a file that is not a socket is in the way"), "{error}");
    fs::remove_file(&path).unwrap();

    // A cleanup has removed the file, and the next server has bound its own.
    let file = bind(&socket(), &path).unwrap();
    fs::remove_file(&path).unwrap();
    let next = socket();
    let next = (bind(&next, &path).unwrap(), next);
    drop(file);
    assert!(is_bound(&path).unwrap());
    drop(next);
    assert!(!path.exists());
}

#[test]
fn a_file_is_known_again_after_touch_chmod_and_a_new_directory_name() {
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = (dir.path().join("before"), dir.path().join("after"));
    fs::create_dir(&before).unwrap();
    let path = before.join("a.sock");
    let file = bind(&socket(), &path).unwrap();
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
        last_modification: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
    };
    rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
    rustix::fs::chmod(&path, Mode::from_raw_mode(0o666)).unwrap();
    fs::rename(&before, &after).unwrap();
    drop(file);
    assert_eq!(files(&after), [""; 0]);
}

#[test]
fn lock_files_of_others_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (path, lock) = (dir.path().join("a.sock"), dir.path().join("a.sock.lock"));
    fs::write(&lock, "precious").unwrap();
    let locked = fs::File::open(&lock).unwrap();
    rustix::fs::flock(&locked, FlockOperation::LockExclusive).unwrap();
    drop(bind(&socket(), &path).unwrap());
    assert_eq!(files(dir.path()), ["a.sock.lock"]);
    assert_eq!(fs::read_to_string(&lock).unwrap(), "precious");
}

#[test]
fn a_lock_on_the_directory_does_not_keep_a_server_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let locked = fs::File::open(dir.path()).unwrap();
    rustix::fs::flock(&locked, FlockOperation::LockExclusive).unwrap();
    bind(&socket(), &dir.path().join("a.sock")).unwrap();
}

#[test]
fn a_file_that_is_not_served_stays_as_long_as_any_process_has_its_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.sock");
    let ours = socket();
    // A fork leaves a copy of the descriptor.
    let theirs = ours.try_clone().unwrap();
    let file = SocketFile::bind(&ours, &path, &Options::default()).unwrap();
    drop(ours);
    drop(file);
    assert!(is_bound(&path).unwrap());
    drop(theirs);
    let ours = socket();
    let file = SocketFile::bind(&ours, &path, &Options::default()).unwrap();
    drop(ours);
    drop(file);
    assert!(!path.exists());
}

#[test]
fn a_fork_leaves_the_file_of_a_server_that_serves() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.sock");
    let socket = socket();
    let mut file = bind(&socket, &path).unwrap();
    file.server = Some(Creator::other());
    drop(file);
    assert!(is_bound(&path).unwrap());
}

#[test]
fn a_directory_that_is_open_to_all_is_refused_unless_that_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    rustix::fs::chmod(&open, Mode::from_raw_mode(0o777)).unwrap();
    let error = bind(&socket(), &open.join("a.sock")).unwrap_err();
    assert!(error.to_string().contains("every user may replace files"), "{error}");
    let options = Options { any_dir: true, ..Options::default() };
    assert!(SocketFile::bind(&socket(), &open.join("a.sock"), &options).is_ok());
    rustix::fs::chmod(&open, Mode::from_raw_mode(0o1777)).unwrap();
    assert!(bind(&socket(), &open.join("b.sock")).is_ok());
}

#[test]
fn of_many_starters_exactly_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..200 {
        let path = dir.path().join(format!("{round}.sock"));
        if round % 2 == 1 {
            // Over a stale file.
            drop(UnixListener::bind(&path).unwrap());
        }
        let won: Vec<_> = thread::scope(|scope| {
            let start = || {
                let socket = socket();
                bind(&socket, &path).map(|file| (file, socket))
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect()
        });
        assert_eq!(won.len(), 1);
        assert!(is_bound(&path).unwrap());
    }
}
