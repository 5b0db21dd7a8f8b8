//! Memory of connections that are idle, by their number.

use crate::case::{Case, Place};
use crate::results::GroupResult;

/// Measures each case once: resident memory hardly varies.
pub(crate) fn measure(cases: &[Case], place: &Place, faults: &mut Vec<String>) -> GroupResult {
    eprintln!("memory");
    let mut group = GroupResult::new("memory", "Resident memory of connections that are idle, Unix socket");
    for case in cases {
        group.add_result((&case.name, &case.label), case.measure(place), faults);
    }
    group
}
