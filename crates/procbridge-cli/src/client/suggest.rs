//! Suggests a socket with a similar name for a path without one.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use procbridge::Endpoint;

/// Returns a hint for `missing`, the path of a socket that does not exist.
pub(crate) fn suggest_socket(missing: &Path) -> Option<String> {
    let parent = missing.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Some(format!("there is no directory {}", parent.display()));
    }
    let wanted = stem(missing)?;
    let mut similar: Vec<(f64, PathBuf)> = fs::read_dir(parent)
        .ok()?
        .take(MAX_ENTRIES)
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()))
        .map(|entry| parent.join(entry.file_name()))
        .map(|path| (strsim::normalized_damerau_levenshtein(&wanted, &stem(&path).unwrap_or_default()), path))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .collect();
    similar.sort_by(|(a, first), (b, second)| b.total_cmp(a).then_with(|| first.cmp(second)));
    similar.iter().find_map(|(_, path)| {
        let what = match Endpoint::unix(path).has_listener() {
            Ok(false) => return None,
            Err(_) => "a socket in the same directory",
            Ok(true) => "where a server listens",
        };
        Some(format!("did you mean {}, {what}?", path.display()))
    })
}

/// Whether there is a socket at `path`.
pub(crate) fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

fn stem(path: &Path) -> Option<String> {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned())
}

/// The number of entries that are read of a directory, which may have any size.
const MAX_ENTRIES: usize = 1000;
const MIN_SIMILARITY: f64 = 0.5;
