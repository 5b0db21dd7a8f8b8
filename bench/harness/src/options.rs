//! The command line of `scripts/bench`.

use std::path::PathBuf;

use crate::goals;

/// The options that were asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Options {
    /// Where the programs are; the script says it.
    pub(crate) built: PathBuf,
    pub(crate) quick: bool,
    pub(crate) check: bool,
    /// Gates figures that depend on the machine too.
    pub(crate) check_all: bool,
    pub(crate) json: Option<PathBuf>,
    /// Groups, rows and goals; everything if there are none.
    pub(crate) only: Vec<String>,
    pub(crate) rounds: Option<usize>,
    /// Results of an earlier run instead of a new one.
    pub(crate) render: Option<PathBuf>,
    /// Where tables and drawings go; nowhere if that is not said.
    pub(crate) write: Option<PathBuf>,
    pub(crate) list: bool,
}

impl Options {
    pub(crate) fn read(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self { built: beside(), ..Self::default() };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().cloned().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--built" => options.built = value()?.into(),
                "--quick" => options.quick = true,
                "--check" => options.check = true,
                "--check-all" => (options.check, options.check_all) = (true, true),
                "--list" => options.list = true,
                "--json" => options.json = Some(value()?.into()),
                "--only" => options.only.extend(value()?.split(',').map(str::to_string)),
                "--rounds" => options.rounds = Some(number(&value()?)?),
                "--render" => options.render = Some(value()?.into()),
                "--write" => options.write = Some(value()?.into()),
                other => return Err(format!("unknown argument {other:?}")),
            }
        }
        Ok(options)
    }

    /// Whether a row is asked for. `first` says that it is the one that its group is compared with.
    pub(crate) fn wants(&self, group: &str, case: &str, first: bool) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| names(only, group, case, first))
    }

    /// Returns the first of those that are asked for that names nothing at all.
    pub(crate) fn unknown(&self, rows: &[(String, String)]) -> Option<&str> {
        let known = |only: &str| rows.iter().any(|(group, case)| names(only, group, case, false));
        self.only.iter().map(String::as_str).find(|only| !known(only))
    }
}

/// Whether `only` is this group, this row, or a goal that needs this row.
fn names(only: &str, group: &str, case: &str, first: bool) -> bool {
    if let Some((of, row)) = only.split_once('/') {
        return of == group && (row == case || first);
    }
    only == group
        || goals::all().iter().filter(|condition| condition.goal.eq_ignore_ascii_case(only)).any(
            |condition| {
                [Some(condition.top), condition.bottom, condition.bare]
                    .into_iter()
                    .flatten()
                    .any(|figure| figure.is(group, case))
            },
        )
}

/// Returns the directory where this program was built.
fn beside() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.parent().map(PathBuf::from).unwrap_or_default()
}

fn number(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(format!("{text:?} is no number of rounds")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &str) -> Result<Options, String> {
        Options::read(&arguments.split(' ').map(str::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert_eq!(read("--quik").unwrap_err(), "unknown argument \"--quik\"");
        assert_eq!(read("--json").unwrap_err(), "--json needs a value");
        assert!(read("--rounds 0").is_err());
    }

    #[test]
    fn a_group_a_row_and_a_goal_can_be_asked_for() {
        let options = read("--only latency-unix").unwrap();
        assert!(options.wants("latency-unix", "tokio", false));
        assert!(!options.wants("latency-tcp", "tokio", false));
        let options = read("--only latency-unix/tokio").unwrap();
        assert!(options.wants("latency-unix", "tokio", false));
        assert!(options.wants("latency-unix", "raw", true));
        assert!(!options.wants("latency-unix", "blocking", false));
        let options = read("--only s1,R3").unwrap();
        assert!(options.wants("latency-unix", "blocking", false));
        assert!(options.wants("latency-unix", "same-work", false));
        assert!(options.wants("latency-unix", "raw", false));
        assert!(options.wants("size", "min-std", false));
        assert!(!options.wants("latency-unix", "tokio", false));
    }

    #[test]
    fn a_name_that_is_nothing_is_found() {
        let rows = [("latency-unix".to_string(), "raw".to_string())];
        assert_eq!(read("--only latency-unix,nothing").unwrap().unknown(&rows), Some("nothing"));
        assert_eq!(read("--only S1").unwrap().unknown(&rows), None);
    }
}
